"""What a worker writes: the lines that every process writes, and no payload."""

import pytest

SECRET = "a secret of the payload"
# Where main process and pool child are one, and its set-up must not happen twice.
POOL = "solo"


@pytest.fixture(scope="module")
def log(stack):
    return stack.process("sample", "worker")


def test_a_workers_log_has_the_engines_events(stack, submit, log):
    """WAYBILL_LOG_LEVEL holds in a worker, whatever Celery's own level is; operation and trace are on the line."""
    operation, metadata = stack.finished(submit("sample.echo"))

    line = log.wait_for_event("attempt.settled", operation=operation.name)
    assert (line["state"], line["attempt"], line["trace_id"]) == ("SUCCEEDED", 1, metadata.trace_id)
    assert (line["service"], line["process"], line["level"]) == ("sample", "worker", "info")


def test_no_payload_is_logged(stack, submit, log):
    """Neither Celery's own lines nor the traceback of a failed attempt show what a client sent."""
    done, _ = stack.finished(submit("sample.echo", {"word": SECRET}))
    failed, _ = stack.finished(submit("sample.fail", {"word": SECRET}))

    for operation in (done, failed):
        log.wait_for_event("attempt.settled", operation=operation.name)
    assert SECRET not in "\n".join(log.lines)


def test_a_workers_start_and_work_warn_of_nothing(stack, submit, log):
    """Warnings mean something."""
    stack.finished(submit("sample.echo"))

    assert [line for line in log.events if line.get("level") not in {"info", "error", None}] == []
