"""Which ordinary Celery messages a worker runs, and that the others are kept."""

import base64
import json

import pytest
from chassis.plain_messages import offer_again, parked_key, refusal, take

QUEUE = "test.q"
KNOWN = {"test.plain"}


def message(**changes):
    return {
        "body": base64.b64encode(b"[[], {}, {}]").decode(),
        "content-type": "application/json",
        "headers": {"task": "test.plain"},
        "properties": {
            "delivery_tag": "tag",
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "body_encoding": "base64",
        },
        **changes,
    }


def raw(**changes):
    return json.dumps(message(**changes)).encode()


def test_a_message_of_a_known_task_is_not_refused():
    """As kombu writes it, with a body in base64 or as it is."""
    plain = {"delivery_tag": "tag", "delivery_info": {"exchange": ""}}

    assert refusal(raw(), KNOWN) == ""
    assert refusal(raw(body="[[], {}, {}]", properties=plain), KNOWN) == ""


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\xff\x00",
        b"[]",
        b"{}",
        raw(body="%%%"),
        raw(body=base64.b64encode(b"no json").decode()),
        raw(headers=None),
        raw(headers={"task": ["test.plain"]}),
        raw(headers={"task": "test.other"}),
        raw(properties={"delivery_info": {"exchange": ""}}),
        raw(properties={"delivery_tag": "", "delivery_info": {"exchange": ""}}),
        raw(properties={"delivery_tag": "tag"}),
        raw(**{"content-type": "application/x-python-serialize"}),
    ],
)
def test_what_cannot_run_is_refused_with_a_reason(bad):
    """Never an exception, whatever the bytes."""
    assert refusal(bad, KNOWN)


def test_what_cannot_run_is_parked_and_the_next_message_taken(store):
    """Each in its place: the first that can run comes out, what was before it is kept as it came."""
    key = store.keys.named(f"celery:{QUEUE}")
    store.client.lpush(key, b"garbage", raw(headers={"task": "test.later"}), raw())

    taken = take(store, QUEUE, key, KNOWN)

    assert taken["headers"]["task"] == "test.plain"
    assert store.client.llen(key) == 0
    assert store.client.lrange(parked_key(store.keys, QUEUE), 0, -1) == [
        raw(headers={"task": "test.later"}),
        b"garbage",
    ]


def test_what_is_parked_is_offered_again_once(store):
    """In its old order, in the queue that it came from."""
    key, prefix = store.keys.named(f"celery:{QUEUE}"), store.keys.named("celery:")
    store.client.lpush(key, b"garbage", raw(headers={"task": "test.later"}))
    assert take(store, QUEUE, key, KNOWN) is None

    assert offer_again(store, [QUEUE], prefix) == 2

    assert take(store, QUEUE, key, {"test.later"})["headers"]["task"] == "test.later"
    assert store.client.lrange(parked_key(store.keys, QUEUE), 0, -1) == [b"garbage"]
