"""Log lines of supervisor and engine process. Never audio, text or keys."""

import logging

LINE_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def configure_logging(level: str) -> None:
    """Write our lines to standard error; libraries are heard for warnings and errors only."""
    logging.basicConfig(level=logging.WARNING, format=LINE_FORMAT)
    logging.raiseExceptions = False  # a full disk under the log must not end the server
    for package in ("worker", "protocol"):
        logging.getLogger(package).setLevel(level.upper())
