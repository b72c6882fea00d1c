"""Logs for a person on a terminal, or for a file."""

import logging
import sys

import structlog


def configure(*, verbose: bool, quiet: bool) -> None:
    """Log to standard error what happens; ``verbose``: also why; ``quiet``: only warnings. Colour on a tty."""
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=False),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), sort_keys=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
