"""The log of the service: one line of JSON for each event, on standard output."""

import logging
import sys

from pythonjsonlogger.json import JsonFormatter


def log_as_json() -> None:
    """Have everything that is logged in this process written as JSON."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        JsonFormatter(
            "%(asctime)s %(levelname)s %(name)s %(message)s",
            rename_fields={"asctime": "at", "levelname": "level", "name": "logger", "message": "event"},
            datefmt="%Y-%m-%dT%H:%M:%S%z",
        )
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
