"""``python -m tapbond``."""

from tapbond.cli import main

main()
