"""Lists of operations: filters, pages, and both while work goes on."""

import pytest
from chassis import store_calls
from chassis.descriptions import record_of
from chassis.errors import InvalidArgument
from chassis.listing import SCAN_LIMIT, Filter, list_page, parse_filter

pytestmark = pytest.mark.anyio


async def pages(store, *, size, wanted="", index="ops", between=lambda: None):
    """The ids of each page, first to last."""
    token, found = "", []
    while True:
        page = await list_page(store, index, parse_filter(wanted), size=size, token=token)
        found.append([record_of(stored).id for stored in page.operations])
        token = page.next_page_token
        if not token:
            return found
        between()


async def matching(store, expression):
    return {id_ for page in await pages(store, size=1000, wanted=expression) for id_ in page}


async def test_the_newest_come_first(async_store, work):
    """Operations of one instant in a fixed order of their own."""
    older, newer = work.accept(3), work.accept(3)

    (page,) = await pages(async_store, size=10)

    assert (set(page[:3]), set(page[3:])) == (set(newer), set(older))
    assert [page] == await pages(async_store, size=10)


@pytest.mark.parametrize("size", [1, 3, 10, 11])
async def test_pages_join_without_gap_or_repeat(async_store, work, size):
    """However small, also through operations that were accepted at one instant."""
    ids = work.accept(10)

    found = await pages(async_store, size=size)

    assert sorted(id_ for page in found for id_ in page) == sorted(ids)
    assert all(len(page) == size for page in found[: 10 // size])


async def test_pages_stay_joined_while_operations_are_accepted(async_store, work):
    """What is accepted meanwhile is newer than the first page, and in none of the later ones."""
    ids = work.accept(30)

    found = await pages(async_store, size=7, between=lambda: work.accept(5))

    assert sorted(id_ for page in found for id_ in page) == sorted(ids)


async def test_a_page_that_takes_several_reads_has_nothing_twice(async_store, work):
    """Operations accepted between two reads of one page do not shift it."""
    ids = work.accept(450)
    looked = []

    def looking(stored):
        looked.append(record_of(stored).id)
        if len(looked) in {150, 350}:
            work.accept(20)
        return True

    page = await list_page(async_store, "ops", Filter(looking), size=450, token="")

    assert sorted(record_of(stored).id for stored in page.operations) == sorted(ids)


async def test_a_filter_that_matches_little_gives_short_pages(async_store, work, monkeypatch):
    """A page looks at a bounded number; the token goes on, and nothing that matches is left out."""
    monkeypatch.setattr("chassis.listing.SCAN_LIMIT", 10)
    (wanted,) = work.accept(task="test.other")
    work.accept(25)

    found = await pages(async_store, size=5, wanted="task = test.other")

    assert found == [[], [], [wanted]]
    assert SCAN_LIMIT >= 1000


async def test_filters_choose_by_every_field(async_store, work):
    """Equality on each field, joined by AND; quotes where a value has spaces; spaces around = do not matter."""
    (plain,) = work.accept()
    (other,) = work.accept(task="test.other", request_id="r 1", labels={"team": "sre", "on.call": "a AND b"})
    (failed,) = work.fail(labels={"team": "sre"})
    (child,) = work.accept(parent="", labels={"team": "dev"})
    trace = await trace_of(async_store, plain)

    assert await matching(async_store, "") == {plain, other, failed, child}
    assert await matching(async_store, "task=test.other") == {other}
    assert await matching(async_store, 'request_id = "r 1"') == {other}
    assert await matching(async_store, "labels.team = sre") == {other, failed}
    assert await matching(async_store, "labels.team = sre AND state = FAILED") == {failed}
    assert await matching(async_store, 'labels.on.call = "a AND b" AND labels.team="sre"') == {other}
    assert await matching(async_store, "state = OPERATION_STATE_FAILED") == {failed}
    assert await matching(async_store, "state=failed AND queue=test.q") == {failed}
    assert await matching(async_store, f"trace_id = {trace}") == {plain}
    assert await matching(async_store, 'parent = ""') == {plain, other, failed, child}
    assert await matching(async_store, "queue = nowhere") == set()
    assert await matching(async_store, "state != FAILED AND -labels:team") == {plain}
    assert await matching(async_store, "(state = FAILED AND labels:team) OR task = test.other") == {other, failed}
    assert await matching(async_store, 'error:"IT BROKE"') == await matching(async_store, "broke") == {failed}
    assert await matching(async_store, "end_time:*") == {failed}
    assert await matching(async_store, "create_time > 2026-01-01T00:00:00Z sre") == {other, failed}


async def trace_of(store, operation_id):
    span = await store.client.hget(store.keys.operation(operation_id), "tr")
    return span.decode().partition("/")[0]


async def test_children_are_found_by_their_parent(async_store, work):
    """By the parent's name."""
    (parent,) = work.accept()
    work.begin(parent)
    (child,) = work.accept(parent=f"operations/test/{parent}")

    assert await matching(async_store, f'parent = "operations/test/{parent}"') == {child}


@pytest.mark.parametrize("token", ["x", "AAAA", "e30="])
async def test_a_token_of_somebody_elses_is_bad_input(async_store, token):
    """INVALID_ARGUMENT on page_token."""
    with pytest.raises(InvalidArgument) as raised:
        await list_page(async_store, "ops", parse_filter(""), size=5, token=token)
    assert [violation.field for violation in raised.value.violations] == ["page_token"]


async def test_a_page_goes_on_where_its_last_operation_was_deleted(async_store, work, store):
    """The token names a place, not an operation that must still be there."""
    ids = work.fail(6)
    first = await list_page(async_store, "ops", parse_filter(""), size=3, token="")
    store.run(store_calls.delete([record_of(stored).id for stored in first.operations]))

    second = await list_page(async_store, "ops", parse_filter(""), size=3, token=first.next_page_token)

    assert {record_of(s).id for s in first.operations} | {record_of(s).id for s in second.operations} == set(ids)
