"""How an experiment is parametrised: its pools, and its rounds in the short form and in the long one."""

from collections.abc import Callable
from typing import Any

import pytest

POOLS = ("threads", "prefork")


def side_by_side(group):
    """Marks of the long form. Groups run side by side, the experiments of one after another: they share an arena."""
    return [pytest.mark.chaos, pytest.mark.xdist_group(group)]


def experiment(*, short=1, long=5, pools=POOLS, short_pools=("threads",)):
    """The test takes `arena`, whose pool this sets, and `rounds`. `make test` runs the short form, `make chaos` all.

    Args:
        short: rounds in `make test`.
        long: rounds in `make chaos`.
        pools: of the long form; the services use threads and prefork.
        short_pools: of the short form.
    """

    def parametrised(test: Callable[..., None]) -> Any:
        params = [pytest.param(pool, short, id=f"{pool}-short") for pool in short_pools]
        for pool in pools:
            # A process that runs experiments of a pool keeps its arena of that pool for all of them.
            marks = side_by_side(f"{pool} {test.__module__}")
            params.append(pytest.param(pool, long, id=f"{pool}-long", marks=marks))
        return pytest.mark.parametrize(("arena", "rounds"), params, indirect=["arena"])(test)

    return parametrised
