"""What every driver does, whatever it drives: warm up, publish, wait until all have ended, say what it took.

`python drive_<side>.py COUNT WARM_UP` with BENCH_REDIS_URL, and BENCH_PIDS, JSON of {name: [pid...]} whose CPU time is
measured. Prints JSON. How many have ended is one cheap command (O(1) in the server) every 20 ms, on every side.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

from processes import cpu_seconds, until

POLL_SECONDS = 0.02
TEXT = "x" * 200


def drive(
    publish: Callable[[int], None], ended: Callable[[], int], *, caught_up: Callable[[], bool] = lambda: True
) -> None:
    """`publish` so many; `ended` counts those that ever ended; `caught_up`: what runs behind, as spans, has come after.

    The rate is from before the first is published until the last has ended; CPU time counts until `caught_up`.
    """
    count, warm_up = int(sys.argv[1]), int(sys.argv[2])
    watched: dict[str, list[int]] = json.loads(os.environ["BENCH_PIDS"])
    if warm_up:
        _run(publish, ended, warm_up)
        until(caught_up, "what runs behind to catch up", every=0.1)
    before = _used(watched)
    seconds = _run(publish, ended, count)
    driver = time.process_time() - before["driver"]
    until(caught_up, "what runs behind to catch up", every=0.1)
    cpu = {name: used - before[name] for name, used in _used(watched).items()} | {"driver": driver}
    print(json.dumps({"operations": count, "seconds": seconds, "cpu_seconds": cpu}))


def _run(publish: Callable[[int], None], ended: Callable[[], int], count: int) -> float:
    before = ended()
    began = time.perf_counter()
    publish(count)
    until(lambda: ended() - before >= count, "every operation to end", every=POLL_SECONDS)
    return time.perf_counter() - began


def _used(watched: dict[str, list[int]]) -> dict[str, float]:
    used = {name: sum(map(cpu_seconds, pids)) for name, pids in watched.items()}
    return used | {"driver": time.process_time()}
