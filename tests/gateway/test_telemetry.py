import logging

import pytest

from gateway.telemetry import configure_logging, event


def test_line_is_an_event_and_its_fields() -> None:
    fields = {"request_id": "req_1", "wall_seconds": 1.23456, "count": 3, "key": None}

    assert event("request finished", fields) == (
        "request finished request_id=req_1 wall_seconds=1.235 count=3"
    )


def test_values_that_could_be_misread_are_quoted() -> None:
    line = event("x", {"path": 'a b"c\n', "name": "ß", "empty": "", "url": "tcp://h:1/a-b"})

    assert line == r'x path="a b\"c\n" name="\u00df" empty="" url=tcp://h:1/a-b'


def test_only_our_own_packages_are_heard_below_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (None, "gateway", "protocol"):
        logger = logging.getLogger(name)
        monkeypatch.setattr(logger, "level", logger.level)
        monkeypatch.setattr(logger, "handlers", [])
        logger.manager._clear_cache()  # type: ignore[attr-defined]

    configure_logging("debug")

    assert logging.getLogger("gateway.boundary").isEnabledFor(logging.DEBUG)
    assert not logging.getLogger("uvicorn.error").isEnabledFor(logging.WARNING)
    assert not logging.getLogger("python_multipart").isEnabledFor(logging.WARNING)
    for name in (None, "gateway", "protocol", "uvicorn.error", "python_multipart"):
        logging.getLogger(name).manager._clear_cache()  # type: ignore[attr-defined]
