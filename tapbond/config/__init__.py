"""Configuration files: ``/etc/tapbond/NAME.toml``, whose keys are the long options of ``tapbond run``."""
