"""Publishes no-ops and prints how many a second: `python publish.py PUBLISHER COUNT`.

A quarter more goes first, so that connections and caches are warm.
"""

import sys
import time
from functools import partial

import drive_stock
import drive_waybill

PUBLISH = {
    "accept_many": drive_waybill.publish,
    "accept_many_named": partial(drive_waybill.publish, named=True),
    "apply_async": drive_stock.publish,
}


def main() -> None:
    """Publish."""
    publish, count = PUBLISH[sys.argv[1]], int(sys.argv[2])
    publish(count // 4)
    began = time.perf_counter()
    publish(count)
    print(count / (time.perf_counter() - began))


if __name__ == "__main__":
    main()
