"""Ordinary Celery messages on a service's queues: which a worker can run, and where the others are kept.

What no worker could read, or what names a task that this one does not know, is parked: kept as it came, counted and
logged, never thrown away, and offered again to every worker that starts.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Container, Sequence
from typing import Any, Final

from chassis.logging import get_logger
from chassis.store import Store
from chassis.store_calls import Keys

log = get_logger(__name__)

#: Data only (law 12); `application/x-waybill-delivery` never travels by a queue.
ACCEPTED: Final = frozenset({"application/json"})

# KEYS: queue, and the parked list where it is to be parked. Whoever removes the message has it.
_TAKE: Final = """
if redis.call('LREM', KEYS[1], -1, ARGV[1]) == 0 then return 0 end
if KEYS[2] then redis.call('LPUSH', KEYS[2], ARGV[1]) end
return 1
"""


def refusal(raw: bytes, known: Container[str]) -> str:
    """Why a worker with these tasks cannot run this message; empty where it can."""
    try:
        message = json.loads(raw)
        content_type, properties = message["content-type"], message["properties"]
        if properties["delivery_info"]["exchange"] is None or not properties["delivery_tag"]:
            return "no delivery tag"
        if content_type not in ACCEPTED:
            return f"content type {content_type}"
        json.loads(_body(message))
        task = message["headers"]["task"]
        return "" if task in known else f"unknown task {task}"
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        return repr(error)[:100]


def _body(message: dict[str, Any]) -> str | bytes:
    body: str = message["body"]
    return base64.b64decode(body) if message["properties"].get("body_encoding") == "base64" else body


def take(store: Store, queue: str, key: str, known: Container[str]) -> Any:
    """The next message of the list that can be run, decoded; None when there is none. Parks those before it."""
    client = store.client
    while (raw := client.lindex(key, -1)) is not None:
        why = refusal(raw, known)
        keys = [key, parked_key(store.keys, queue)] if why else [key]
        if not client.eval(_TAKE, len(keys), *keys, raw):
            continue
        if not why:
            return json.loads(raw)
        log.warning("message.parked", queue=queue, reason=why, waiting=client.llen(keys[1]))
    return None


def offer_again(store: Store, queues: Sequence[str], prefix: str) -> int:
    """Put what is parked back into its queue, once each; how many. `prefix`: of the queues' lists."""
    moved = 0
    for queue in queues:
        for _ in range(store.client.llen(parked_key(store.keys, queue))):
            moved += store.client.lmove(parked_key(store.keys, queue), prefix + queue, "RIGHT", "LEFT") is not None
    return moved


def parked_key(keys: Keys, queue: str) -> str:
    """The list of a queue's parked messages, oldest last."""
    return keys.named(f"celery:parked:{queue}")
