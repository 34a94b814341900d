from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from chassis import paging
from chassis.errors import InvalidArgument
from dashboard_service import history
from dashboard_service.operation_rows import BLANK
from hypothesis import given
from hypothesis import strategies as st

START = datetime(2026, 7, 1, tzinfo=UTC)


def a_row(service, second):
    return replace(BLANK, name=f"operations/{service}/{second}", created=START + timedelta(seconds=second))


def a_listing(service, seconds, page_size):
    """ListOperations of one service: token is the offset of the page."""
    rows = [a_row(service, each) for each in sorted(seconds, reverse=True)]

    def page(place):
        start = int(place.token or 0)
        more = start + page_size < len(rows)
        return history.Page(place, rows[start : start + page_size], str(start + page_size) if more else "")

    return page


def walk(listings, size):
    token, pages = "", []
    while True:
        places = history.places(token, list(listings))
        merged = history.merge({service: listings[service](place) for service, place in places.items()}, size)
        pages.append(merged.rows)
        token = merged.next_token
        if not token:
            return pages


SECONDS = st.sets(st.integers(0, 500), max_size=40)


@given(SECONDS, SECONDS, SECONDS, st.integers(1, 9), st.integers(1, 9))
def test_a_walk_over_the_pages_shows_every_operation_once_newest_first(metrics, notify, reports, page_size, size):
    """However the pages of three services interleave, nothing is missed, repeated or out of order."""
    times = {"metrics": metrics, "notify": notify, "reports": reports}
    listings = {service: a_listing(service, seconds, page_size) for service, seconds in times.items()}

    pages = walk(listings, size)

    names = [row.name for rows in pages for row in rows]
    assert sorted(names) == sorted(f"operations/{service}/{each}" for service in times for each in times[service])
    created = [row.created for rows in pages for row in rows]
    assert created == sorted(created, reverse=True)
    assert all(len(rows) <= size for rows in pages)


def test_an_empty_page_with_more_behind_it_does_not_end_the_list():
    """A filter that matches little gives a service short pages; the walk goes on behind them."""
    empty = history.Page(history.Place(), [], "later")

    merged = history.merge({"metrics": empty}, 10)

    assert merged.rows == []
    assert history.places(merged.next_token, ["metrics"]) == {"metrics": history.Place("later", 0)}


def test_a_service_that_has_left_is_left_out():
    """A token from before a route was removed still gives the pages of the others."""
    listings = {name: a_listing(name, range(5), 2) for name in ("metrics", "notify")}
    merged = history.merge({name: listing(history.Place()) for name, listing in listings.items()}, 2)

    assert set(history.places(merged.next_token, ["notify"])) == {"notify"}


def test_a_foreign_token_is_refused():
    """A token of something else is an error of page_token."""
    with pytest.raises(InvalidArgument) as refused:
        history.places(paging.encode((1, 2, 3)), ["metrics"])

    assert refused.value.violations[0].field == "page_token"
