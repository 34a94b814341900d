"""Logs: JSON lines that say which operation and which trace they belong to."""

import io
import json
import logging as standard

import pytest
import structlog
from chassis import logging


@pytest.fixture
def lines():
    root = standard.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    logging.configure("depot", "worker", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    logging.clear()


def test_a_line_is_an_event_name_and_fields(lines):
    """Service, process, level and time are on every line."""
    logging.get_logger().info("crate.loaded", weight=3)

    (line,) = lines()
    assert line.pop("time").endswith("Z")
    assert line == {"event": "crate.loaded", "weight": 3, "service": "depot", "process": "worker", "level": "info"}


def test_bound_fields_are_on_every_line_and_taken_off_again(lines):
    """The edge binds operation and trace; what follows is free of them."""
    log = logging.get_logger()
    with logging.bound(operation="operations/depot/1", trace_id="ab"):
        log.info("inside")
        standard.getLogger("library").warning("of a %s", "library")
    log.info("outside")

    inside, library, outside = lines()
    assert inside["operation"] == library["operation"] == "operations/depot/1"
    assert library["event"] == "of a library"
    assert "operation" not in outside


def test_a_traceback_is_data(lines):
    """An exception is on the line of its event, not on lines of its own."""
    try:
        {}["crate"]
    except KeyError:
        logging.get_logger().exception("crate.lost")

    (line,) = lines()
    assert line["exception"][0]["exc_type"] == "KeyError"


def test_a_level_is_respected(lines):
    """Debug lines are left out unless asked for."""
    logging.get_logger().debug("crate.weighed")

    assert lines() == []
