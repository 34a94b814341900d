"""What a service's credentials at the store allow, with the rules that `deploy/redis/users.acl` ships."""

from pathlib import Path

import pytest
import redis

from tests.chaos.forms import experiment
from tests.chaos.oracle import judge

pytestmark = pytest.mark.slow

RULES = Path(__file__).parents[2] / "deploy/redis/users.acl"
PIDBOX = "wb:{chaos}:celery:/0.chaos.pidbox.pidbox"


def users():
    """Name and rules of each user of metrics, made out for the chaos service."""
    for line in RULES.read_text().replace("metrics", "chaos").splitlines():
        word, name, *rules = line.split()
        if word == "user" and name.startswith("chaos"):
            yield name, rules


@pytest.fixture
def credentials(arena):
    """User to URL."""
    for name, rules in users():
        arena.redis.execute_command("ACL", "SETUSER", name, *rules, ">secret")
    yield {name: arena.valkey.url.replace("redis://", f"redis://{name}:secret@") for name, _ in users()}
    for name, _ in users():
        arena.redis.execute_command("ACL", "DELUSER", name)


@experiment(long=1)
def test_18_the_credentials_of_who_accepts_work_shut_no_worker_down(arena, credentials, rounds):
    """With them work is accepted; PUBLISH to the pidbox, FLUSHALL, settings and others' keys are refused."""
    pid = arena.worker.pid
    with (
        arena.changed(arena.gateway, WAYBILL_REDIS_URL=credentials["chaos-publisher"]),
        arena.another_worker(WAYBILL_REDIS_URL=credentials["chaos"]),
        redis.Redis.from_url(credentials["chaos-publisher"]) as publisher,
    ):
        arena.wait_until_serving("chaos")
        arena.client.submit_many("write_effect", 20)
        for command in (
            ("PUBLISH", PIDBOX, '{"method": "shutdown"}'),
            ("EVAL", "return redis.call('PUBLISH', KEYS[1], '{}')", 1, PIDBOX),
            ("FLUSHALL",),
            ("FLUSHDB",),
            ("CONFIG", "SET", "maxmemory", "1"),
            ("SET", "wb:{metrics}:op:x", "1"),
            ("GET", "wb:{metrics}:op:x"),
            ("CLIENT", "KILL", "TYPE", "normal"),
            ("SHUTDOWN",),
        ):
            with pytest.raises((redis.exceptions.NoPermissionError, redis.exceptions.ResponseError)) as refused:
                publisher.execute_command(*command)
            assert "permission" in str(refused.value).lower(), command

        judge(arena)
    assert arena.worker.pid == pid
