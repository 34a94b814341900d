"""What a task leaves outside of the engine: lines of a journal that a kill cannot take back, and calls at the marshal.

A line is written at once, by one write, so that a killed process has either run or not.
"""

import functools
import json
import os
import select
import socket

from chassis.settings import host_and_port, load

from chaos_service.settings import ChaosSettings

CHECK_SECONDS = 0.05


@functools.cache
def settings():
    return load(ChaosSettings)


def note(attempt, what):
    """`what`: began or done."""
    line = {
        "what": what,
        "operation": attempt.operation,
        "attempt": attempt.number,
        "effect": attempt.effect_id,
        "pid": os.getpid(),
    }
    file = os.open(settings().journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, json.dumps(line).encode() + b"\n")
    finally:
        os.close(file)


def wait_for_the_marshal(attempt, *, heedless=False):
    """Say that this attempt runs, then wait to be let go. Heedless: neither a cancel nor the deadline is noticed."""
    with socket.create_connection(host_and_port(settings().marshal)) as marshal:
        marshal.sendall(f"{attempt.operation} {attempt.number} {os.getpid()}\n".encode())
        while not select.select([marshal], [], [], CHECK_SECONDS)[0]:
            if not heedless:
                attempt.check()
        marshal.recv(1)
