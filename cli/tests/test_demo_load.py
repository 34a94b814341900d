"""The load uses processor time outside the interpreter's lock, where it is told to, until it is stopped."""

import os
import threading

import psutil
import pytest
from waybill_cli.demo import load
from waybill_cli.demo.load import Load, processors_to_fill


@pytest.fixture
def running():
    made = Load()
    yield made
    made.stop()


def test_a_load_uses_processor_time_until_stopped(running):
    """It computes while this thread computes; after stop no thread of it is left."""
    before = psutil.Process().cpu_times().user

    running.start(None)
    assert "load" in {thread.name for thread in threading.enumerate()}
    while psutil.Process().cpu_times().user - before < 0.2:
        threading.Event().wait(0.01)
    running.stop()

    assert "load" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="want of processor affinity")
def test_a_bound_load_leaves_the_rest_of_the_process_where_it_was(running):
    """Only the load's own thread is bound."""
    allowed = os.sched_getaffinity(0)

    running.start(min(allowed))

    assert os.sched_getaffinity(0) == allowed


def test_a_small_quota_leaves_no_processor_to_fill(tmp_path, monkeypatch):
    """A group that may use one processor's time cannot saturate one beside the stack."""
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(load, "_CGROUP_V2", quota)

    quota.write_text("100000 100000\n")
    small = processors_to_fill()
    quota.write_text("max 100000\n")
    unlimited = processors_to_fill()

    assert small == ()
    assert set(unlimited) == (os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set())
