"""``tapbond bench`` and bench/: tapbond side by side with what one would run instead, on this machine."""
