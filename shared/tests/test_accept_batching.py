"""Acceptances of a gateway share round trips: counted with a commit that notes what each call carries."""

import asyncio

import pytest
from chassis.accept_batching import BATCH_LIMIT, BUSY, AcceptBatcher

pytestmark = pytest.mark.anyio


class Commits:
    """Stands for the store: answers each item with itself, and can be held up."""

    def __init__(self):
        self.sizes = []
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, items):
        self.sizes.append(len(items))
        await asyncio.sleep(0)
        await self.open.wait()
        return list(items)


@pytest.fixture
async def commits():
    return Commits()


async def turn():
    """Whatever is ready has run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_acceptance_that_comes_alone_goes_alone(commits):
    """Nobody has to come after it for it to be answered."""
    batcher = AcceptBatcher(commits)

    assert [await batcher.accept(item) for item in ("a", "b")] == ["a", "b"]
    assert commits.sizes == [1, 1]


async def test_what_comes_while_a_call_is_under_way_shares_the_next(commits):
    """One round trip for all of it, up to the limit."""
    batcher = AcceptBatcher(commits)
    commits.open.clear()
    first = asyncio.create_task(batcher.accept("first"))
    await turn()
    others = [asyncio.create_task(batcher.accept(number)) for number in range(BATCH_LIMIT + 3)]
    await turn()
    commits.open.set()

    assert await asyncio.gather(first, *others) == ["first", *range(BATCH_LIMIT + 3)]
    assert commits.sizes == [1, BATCH_LIMIT, 3]


async def test_a_busy_gateway_waits_for_those_that_come_with_the_next_turn(commits):
    """Two crowds that would take turns, each during the other's call, end up in one: half the calls."""
    batcher, rounds = AcceptBatcher(commits), 20

    async def client():
        for number in range(rounds):
            assert await batcher.accept(number) == number

    commits.open.clear()
    crowds = [asyncio.create_task(client()) for _ in range(BUSY)]
    await turn()
    crowds += [asyncio.create_task(client()) for _ in range(BUSY)]
    await turn()
    commits.open.set()
    await asyncio.gather(*crowds)

    assert sum(commits.sizes) == 2 * BUSY * rounds
    taking_turns = 2 * rounds
    assert len(commits.sizes) < 0.75 * taking_turns
