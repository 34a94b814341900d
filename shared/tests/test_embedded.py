"""The embedded Valkey keeps what it acknowledged, listens on loopback only and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
import redis
from chassis.embedded import EmbeddedValkey, EmbeddedValkeyError, PortInUseError, free_port

START_AND_WAIT = """
import sys
from pathlib import Path
from chassis.embedded import EmbeddedValkey
print(EmbeddedValkey(Path(sys.argv[1])).start().pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def valkey(tmp_path):
    with EmbeddedValkey(tmp_path / "a folder") as running:
        yield running


def client_of(valkey):
    return redis.Redis.from_url(valkey.url, decode_responses=True)


def test_it_is_configured_for_an_operation_store(valkey):
    """Append-only with fsync always, never evicting, no snapshots, loopback only."""
    with client_of(valkey) as client:
        config = client.config_get()

    wanted = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "save": ""}
    assert {key: config[key] for key in wanted} == wanted
    assert {c.laddr.ip for c in psutil.Process(valkey.pid).net_connections("tcp")} == {"127.0.0.1"}


def test_durability_everysec_is_passed_on(tmp_path):
    """The durability that was asked for is the server's own setting."""
    with EmbeddedValkey(tmp_path, durability="everysec") as valkey, client_of(valkey) as client:
        assert client.config_get("appendfsync") == {"appendfsync": "everysec"}


def test_a_crash_loses_nothing_that_was_acknowledged(valkey):
    """After SIGKILL the same port serves the same data."""
    port = valkey.port
    with client_of(valkey) as client:
        client.set("accepted", "yes")

    valkey.kill()
    assert valkey.pid is None
    valkey.start()

    with client_of(valkey) as client:
        assert client.get("accepted") == "yes"
    assert valkey.port == port


def test_a_restart_keeps_port_and_data_and_changes_the_process(valkey):
    """Restart is a clean stop and a start on the same directory and port."""
    before = valkey.pid, valkey.url
    with client_of(valkey) as client:
        client.set("accepted", "yes")

    valkey.restart()

    with client_of(valkey) as client:
        assert client.get("accepted") == "yes"
    assert valkey.url == before[1]
    assert valkey.pid != before[0]


def test_start_returns_only_after_the_append_only_file_is_read(tmp_path):
    """The first command after start is never answered with LOADING."""
    valkey = EmbeddedValkey(tmp_path, durability="everysec").start()
    with client_of(valkey) as client:
        client.eval("for i = 1, 300000 do redis.call('SET', 'key:' .. i, string.rep('x', 100)) end", 0)

    valkey.restart()

    with client_of(valkey) as client:
        assert client.dbsize() == 300_000
    valkey.stop()


def test_two_instances_run_side_by_side(tmp_path):
    """Two directories are two servers that share nothing."""
    with EmbeddedValkey(tmp_path / "a") as one, EmbeddedValkey(tmp_path / "b") as other:
        with client_of(one) as client:
            client.set("whose", "one")
        with client_of(other) as client:
            found = client.get("whose")

    assert found is None
    assert one.port != other.port


def test_a_directory_in_use_is_refused_and_its_holder_named(valkey):
    """Two servers never write one append-only file."""
    with pytest.raises(EmbeddedValkeyError, match=f"in use by another Valkey, pid {valkey.pid}"):
        EmbeddedValkey(valkey.directory, start_timeout=timedelta(milliseconds=100)).start()


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    """A file where the folder should be is an error of the embedded Valkey, not of the file system."""
    (tmp_path / "valkey").write_text("a file")

    with pytest.raises(EmbeddedValkeyError, match="valkey cannot hold Valkey's files: File exists"):
        EmbeddedValkey(tmp_path / "valkey").start()


def test_the_pid_file_of_a_dead_server_does_not_keep_a_new_one_away(valkey):
    """What a crash left behind is recognised as stale."""
    valkey.kill()
    assert (valkey.directory / "valkey.pid").exists()

    with EmbeddedValkey(valkey.directory) as successor:
        assert successor.pid is not None


def test_a_free_port_is_none_that_an_outgoing_connection_may_take():
    """A client that waits for a server to come back must not be given the server's port as its own."""
    outgoing = Path("/proc/sys/net/ipv4/ip_local_port_range")
    lowest = int(outgoing.read_text().split()[0]) if outgoing.exists() else 49_152
    if lowest <= 20_000:
        pytest.skip("want of ports that outgoing connections leave alone")

    ports = {free_port() for _ in range(20)}

    assert max(ports) < lowest
    assert len(ports) > 1


def test_a_port_in_use_is_named(tmp_path):
    """The error says which port is taken, and nothing is left running."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        valkey = EmbeddedValkey(tmp_path, port)

        with pytest.raises(PortInUseError, match=f"port {port} is in use"):
            valkey.start()

    assert valkey.pid is None


def test_a_server_that_cannot_start_shows_the_end_of_its_log(tmp_path):
    """A broken append-only file is an error with the server's own words."""
    valkey = EmbeddedValkey(tmp_path).start()
    with client_of(valkey) as client:
        client.mset({"accepted": "yes", "and": "more"})
    valkey.stop()
    for part in (tmp_path / "appendonlydir").glob("*.incr.aof"):
        part.write_bytes(b"garbage\r\n" + part.read_bytes())

    with pytest.raises(EmbeddedValkeyError, match="Bad file format reading the append only file"):
        valkey.start()


def test_stop_kills_a_server_that_does_not_shut_down(valkey):
    """A frozen server is gone after the limit."""
    pid = valkey.pid
    os.kill(pid, signal.SIGSTOP)

    valkey.stop(timedelta(milliseconds=50))

    assert not psutil.pid_exists(pid)


def test_stop_and_kill_of_a_stopped_server_do_nothing(valkey):
    """Both may be called in any order, any number of times."""
    valkey.stop()

    valkey.stop()
    valkey.kill()

    assert valkey.pid is None


@pytest.mark.skipif(sys.platform != "linux", reason="want of PR_SET_PDEATHSIG")
def test_it_ends_when_its_parent_is_killed(tmp_path):
    """A killed parent leaves no server behind."""
    parent = subprocess.Popen(
        [sys.executable, "-c", START_AND_WAIT, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    pid = int(parent.stdout.readline())
    gone = psutil.Process(pid)

    parent.kill()
    parent.communicate()

    gone.wait(10)
    assert not gone.is_running()


def test_it_outlives_the_thread_that_started_it(tmp_path):
    """Only the end of the process ends the server, not that of one of its threads."""
    valkey = EmbeddedValkey(tmp_path)
    thread = threading.Thread(target=valkey.start)
    thread.start()
    thread.join()

    with client_of(valkey) as client:
        client.set("still", "here")
        assert client.get("still") == "here"
    valkey.stop()
