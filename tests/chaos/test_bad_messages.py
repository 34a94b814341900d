"""What no worker can read, and what this one does not know: kept, seen, and no harm to what comes with it."""

import base64
import json
import pickle
import secrets

import pytest
from waybill.operations.v1 import operations_pb2 as ops

from tests.chaos.forms import experiment
from tests.chaos.oracle import assert_every_slot_works, judge
from tests.stack import until

pytestmark = pytest.mark.slow

QUEUE = "chaos.default"


def envelope(task="chaos.nobody_knows", **changes):
    """A Celery message as kombu writes it."""
    return {
        "body": base64.b64encode(b"[[], {}, {}]").decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"lang": "py", "task": task, "id": secrets.token_hex(8), "argsrepr": "[]", "kwargsrepr": "{}"},
        "properties": {
            "correlation_id": "",
            "delivery_tag": secrets.token_hex(8),
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "body_encoding": "base64",
            "priority": 0,
        },
        **changes,
    }


def messages_that_cannot_run():
    """Each of another kind."""
    untagged = envelope()
    untagged["properties"].pop("delivery_tag")
    pickled = base64.b64encode(pickle.dumps(([], {}, {}))).decode()
    return [
        secrets.token_bytes(40),
        b"",
        b"[1, 2, 3]",
        pickle.dumps({"task": "chaos.write_effect"}),
        json.dumps(envelope(**{"content-type": "application/x-python-serialize", "body": pickled})).encode(),
        json.dumps(envelope(body="%%%")).encode(),
        json.dumps(envelope(headers=None)).encode(),
        json.dumps(untagged).encode(),
        json.dumps(envelope()).encode(),
    ]


@experiment(long=5)
def test_15_messages_that_cannot_run_are_parked_and_stop_nothing(arena, rng, rounds):
    """Garbage, pickle, a missing tag, an unknown task among operations: all are kept, and the worker is the same."""
    pid, sent, queue = arena.worker.pid, [], arena.keys.named(f"celery:{QUEUE}")
    parked = arena.keys.named(f"celery:parked:{QUEUE}")
    for _ in range(rounds):
        bad = messages_that_cannot_run()
        rng.shuffle(bad)
        for message in bad:
            arena.redis.lpush(queue, message)
            arena.client.submit_many("write_effect", rng.randint(0, 5))
        sent += bad
        until(lambda: not arena.redis.exists(queue), "all messages are taken")

    judge(arena)
    assert arena.worker.pid == pid
    assert sorted(arena.redis.lrange(parked, 0, -1)) == sorted(sent)
    assert arena.worker.wait_for_event("message.parked", queue=QUEUE, reason="unknown task chaos.nobody_knows")
    arena.redis.delete(parked)


@experiment(long=2)
def test_15_a_plain_message_is_offered_again_to_a_worker_that_starts(arena, rounds):
    """One that knows its task runs it; nobody has to send it again, and its slot is given back."""
    queue, parked = (arena.keys.named(f"celery:{part}{QUEUE}") for part in ("", "parked:"))
    for _ in range(rounds):
        arena.redis.lpush(queue, json.dumps(envelope("chaos.plain_of_the_next_version")))
        until(lambda: arena.redis.llen(parked), "it is parked")
        mark = arena.worker.mark()
        with arena.changed(arena.worker, CHAOS_NEWER="1"):
            arena.worker.wait_for_event("plain.ran", since=mark)
            assert not arena.redis.exists(queue, parked)
            assert_every_slot_works(arena)

    judge(arena)


@experiment(long=2)
def test_15_an_operation_of_an_unknown_task_waits_for_a_worker_that_knows_it(arena, rng, rounds):
    """The gateway is of the next version, the worker is not: parked, no attempt is used up, run when one comes."""
    pid, state = arena.worker.pid, str(ops.OPERATION_STATE_QUEUED)
    with arena.changed(arena.gateway, CHAOS_NEWER="1"):
        arena.wait_until_serving("chaos")
        for _ in range(rounds):
            newer = arena.client.submit_many("newer", rng.randint(1, 5))
            arena.client.submit_many("write_effect", 5)
            arena.wait_until_parked("chaos.newer", len(newer))
            assert {tuple(arena.stored(name, "st", "at")) for name in newer} == {(state, "")}
            with arena.another_worker(CHAOS_NEWER="1"):
                for name in newer:
                    arena.finished(name)

    kept = judge(arena)
    assert {len(metadata.attempts) for metadata in kept.values()} == {1}
    assert arena.worker.pid == pid
