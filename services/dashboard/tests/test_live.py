import re
import threading

import pytest
from chassis.errors import ResourceExhausted
from dashboard_service import cursors, live
from dashboard_service.feed import Feed
from dashboard_service.streams import Stream
from waybill.admin.v1 import admin_pb2

from services.dashboard.tests.fake_service import a_status
from services.dashboard.tests.forms import csrf
from services.dashboard.tests.live_client import LiveClient

SERVICES = ("metrics", "notify", "reports")
TASKS = {"metrics": "metrics.apply_samples", "notify": "notify.deliver_mail", "reports": "reports.render_report"}


@pytest.fixture(autouse=True)
def quick_samples(monkeypatch):
    monkeypatch.setattr("dashboard_service.live.SAMPLE_SECONDS", 0.2)


def snapshot_cursor(browser):
    """The position that a page was rendered at."""
    return re.search(r'data-cursor="([^"]+)"', browser.get("/operations").text).group(1)


def accept(fakes, service, count=1):
    """Accept operations; the last one."""
    kept = None
    for _ in range(count):
        kept = fakes.do(fakes[service].service.accept, TASKS[service])
    return kept


def number(change):
    """The event's place in its service's log, from 1."""
    return int(change["event"].partition("/")[2])


def test_a_page_is_continued_from_the_snapshot_that_it_shows(fakes, browser, live):
    """What is published between the rendering and the opening of the stream is not missed."""
    accept(fakes, "metrics", 3)
    cursor = snapshot_cursor(browser)
    last = accept(fakes, "metrics", 2)

    with live(f"changes=all&cursor={cursor}") as stream:
        seen = stream.until(lambda change: change["id"] == last.id)

    assert [number(change) for change in seen] == [4, 5]
    assert {change["state"] for change in seen} == {"QUEUED"}


def test_a_browser_that_is_cut_off_again_and_again_sees_each_event_once(fakes, browser, live):
    """Killed after every frame and resumed by Last-Event-ID, under load of three services: no gap, no repeat."""
    total = 60
    last_id = snapshot_cursor(browser)
    working = threading.Thread(target=lambda: [accept(fakes, service, 1) for _ in range(total) for service in SERVICES])
    working.start()
    seen = {service: [] for service in SERVICES}

    while sum(map(len, seen.values())) < total * len(SERVICES):
        with live("changes=all", last_id) as stream:
            for change in stream.next("operations").data:
                seen[change["service"]].append(number(change))
            last_id = stream.last_id
    working.join()

    assert seen == {service: list(range(1, total + 1)) for service in SERVICES}


def test_a_position_that_is_held_no_longer_here_is_caught_up_from_the_service(fakes, live, hub):
    """A browser from before this process began gets everything since by a Subscribe of its own, then the feed."""
    with live("changes=all", cursors.encode(dict.fromkeys(SERVICES, "0-0"))) as fresh:
        accept(fakes, "metrics", 1)
        fresh.next("operations")
    hub.feeds["metrics"].forget()
    before = fakes["metrics"].subscriptions

    with live("changes=all", cursors.encode({"metrics": "0-0"})) as stream:
        first = stream.next("operations").data
        last = accept(fakes, "metrics", 2)
        rest = stream.until(lambda change: change["id"] == last.id)

    assert [number(change) for change in (*first, *rest)] == [1, 2, 3]
    assert fakes["metrics"].subscriptions == before + 1


def test_catching_up_meets_the_feed_and_ends_its_own_call(fakes, hub):
    """Once the positions meet, the browser is shown what the feed has, and no second call stays open."""
    accept(fakes, "metrics", 5)
    stream, feed = Stream(), Feed("metrics")
    for answer in range(3, 6):
        feed.publish(live.feeds.Entry("metrics", "change", f"{answer}-0", "{}"))

    live.catch_up(stream, hub.clients.of("metrics"), feed, "0-0")

    assert [entry.cursor for entry in stream.take(0).entries] == ["0-0", "1-0", "2-0", "3-0", "4-0", "5-0"]
    assert feed._listeners == [stream]


def test_an_expired_position_is_answered_with_resync(fakes, request, browser):
    """Where the service no longer holds the position, the browser is told to ask anew, and goes on from there."""
    accept(fakes, "notify", 4)
    fakes.do(fakes["notify"].service.forget_events)
    live = request.getfixturevalue("live")  # follows from here on, so that the feed does not hold what is expired

    with live("changes=all", cursors.encode({"notify": "1-0"})) as stream:
        told = stream.next("resync")
    with live("changes=all", snapshot_cursor(browser)) as stream:
        last = accept(fakes, "notify")
        seen = stream.until(lambda change: change["id"] == last.id)

    assert told.data == {"service": "notify"}
    assert len(seen) == 1


def test_a_stream_that_was_told_to_resync_still_follows(fakes, hub):
    """What is published after the browser was told reaches it on the same stream."""
    fakes.do(fakes["notify"].service.forget_events)
    stream, feed = Stream(), Feed("notify")

    live.catch_up(stream, hub.clients.of("notify"), feed, "0-0")
    feed.publish(live.feeds.Entry("notify", "change", "9-0", "{}"))

    assert [(entry.kind, entry.cursor) for entry in stream.take(0).entries] == [("resync", ""), ("change", "9-0")]


def test_a_gateway_that_drains_costs_no_event(fakes, browser, live):
    """Its streams end; the follower goes on from its last position, and open browsers notice nothing."""
    with live(f"changes=all&cursor={snapshot_cursor(browser)}") as stream:
        first = accept(fakes, "reports")
        seen = stream.until(lambda change: change["id"] == first.id)
        fakes.run(fakes["reports"].end_subscriptions())
        second = accept(fakes, "reports", 3)
        seen += stream.until(lambda change: change["id"] == second.id)

    assert [number(change) for change in seen] == [1, 2, 3, 4]


def test_a_gateway_that_goes_and_comes_is_told(fakes, browser, live):
    """The page can say that a service is gone, and asks for its rows when it is back."""
    with live(f"changes=all&cursor={snapshot_cursor(browser)}") as stream:
        accept(fakes, "metrics")
        stream.next("operations")
        address = fakes["metrics"].target
        fakes.run(fakes["metrics"].stop())
        gone = stream.next("service").data
        fakes.run(fakes["metrics"].start(address))
        back = stream.next("service").data

    assert (gone["service"], gone["up"], back["service"], back["up"]) == ("metrics", False, "metrics", True)


def test_a_page_about_one_operation_is_shown_that_one(fakes, browser, live):
    """Changes of others are left out; the panel is drawn anew when its operation moves."""
    kept = accept(fakes, "reports")
    name = f"operations/reports/{kept.id}"

    with live(f"panel=operation&operation={name}&cursor={snapshot_cursor(browser)}") as stream:
        drawn = stream.next("panel").data["html"]
        accept(fakes, "reports", 3)
        fakes.do(fakes["reports"].service.begin, kept)
        shown = stream.next("operations").data
        moved = stream.next("panel").data["html"]

    assert "Queued" in drawn
    assert [(change["name"], change["verb"]) for change in shown] == [(name, "began")]
    assert "Running" in moved


def test_samples_say_how_the_services_stand(fakes, live):
    """Health by service and dead letters in all come by themselves."""
    fakes["notify"].health = 2

    with live("") as stream:
        sample = stream.next("sample").data

    assert sample == {"health": {"metrics": "serving", "notify": "not serving", "reports": "serving"}, "dead": 0}


def test_dead_letters_are_counted_again_once_one_more_is_told_of(fakes, live, monkeypatch):
    """Not with every sample: a service looks through its archive to count them."""
    monkeypatch.setattr("dashboard_service.live.LETTERS_SECONDS", 3600)
    with live("changes=all") as stream:
        assert stream.next("sample").data["dead"] == 0
        accepted = accept(fakes, "notify")
        fakes.do(fakes["notify"].service.begin, accepted)
        fakes.do(fakes["notify"].service.fail, accepted, a_status(13, "broken", "BROKEN"))
        sample = stream.next("sample").data
        while sample["dead"] == 0:
            sample = stream.next("sample").data

    assert sample["dead"] == 1


def test_dead_letters_are_not_counted_with_every_sample(fakes, live, monkeypatch):
    """What has been counted holds while no event says otherwise."""
    monkeypatch.setattr("dashboard_service.live.LETTERS_SECONDS", 3600)
    with live("") as stream:
        stream.next("sample")
        counted = fakes["notify"].letters_listed
        for _ in range(3):
            stream.next("sample")

    assert fakes["notify"].letters_listed == counted > 0


def test_health_and_workers_are_not_asked_with_every_sample(fakes, live, monkeypatch):
    """Workers say how they are every five seconds: asking oftener costs the services and tells nothing."""
    monkeypatch.setattr("dashboard_service.live.STANDING_SECONDS", 3600)
    with live("") as stream:
        while "reports" not in stream.next("sample").data["health"]:
            pass
        asked, queues = fakes["reports"].workers_listed, fakes["reports"].queues_listed
        for _ in range(3):
            stream.next("sample")

    assert fakes["reports"].workers_listed == asked > 0
    assert fakes["reports"].queues_listed > queues


def test_they_are_asked_again_once_somebody_has_told_a_worker_something(fakes, live, browser, monkeypatch):
    """Who drains a worker sees it drain."""
    monkeypatch.setattr("dashboard_service.live.STANDING_SECONDS", 3600)
    fakes["reports"].service.workers["press"] = admin_pb2.Worker(name="press")
    with live("") as stream:
        stream.next("sample")
        asked = fakes["reports"].workers_listed
        drained = browser.post("/workers/reports/press/drain", data={"csrf_token": csrf(browser, "/workers")})
        stream.next("sample")
        stream.next("sample")

    assert drained.status_code == 303
    assert fakes["reports"].workers_listed > asked


def test_what_is_not_well_is_asked_with_every_sample(fakes, live, monkeypatch):
    """So that one sees it come back."""
    monkeypatch.setattr("dashboard_service.live.STANDING_SECONDS", 3600)
    fakes["notify"].health = 2
    with live("") as stream:
        while stream.next("sample").data["health"]["notify"] != "not serving":
            pass
        fakes["notify"].health = 1
        sample = stream.next("sample").data
        while sample["health"]["notify"] != "serving":
            sample = stream.next("sample").data

    assert set(sample["health"].values()) == {"serving"}


def test_streams_are_capped_and_a_stream_that_ends_makes_room(browser, hub):
    """One stream more than allowed is refused with a time to come back; pages are still served."""
    opened = [browser.get("/live", buffered=False) for _ in range(4)]

    refused = browser.get("/live", headers={"Accept": "text/event-stream"})

    assert (refused.status_code, refused.json["reason"]) == (429, "TOO_MANY_STREAMS")
    assert refused.headers["Retry-After"] == "1"
    assert browser.get("/queues").status_code == 200
    opened.pop().close()
    assert browser.get("/live", buffered=False).status_code == 200


@pytest.mark.parametrize(
    ("query", "field"),
    [("cursor=%25%25", "Last-Event-ID"), ("panel=nonsense", "panel"), ("panel=trace&trace=xyz", "trace_id")],
)
def test_a_stream_that_can_not_be_opened_says_why(browser, hub, query, field):
    """A bad position, an unknown panel and a bad trace id are problems, and take no slot."""
    answer = browser.get(f"/live?{query}", headers={"Accept": "text/event-stream"})

    assert answer.status_code == 400
    assert [each["field"] for each in answer.json["violations"]] == [field]
    assert hub._streams == []


def test_stopping_ends_every_stream(address, hub):
    """A process that is told to end is not held by its streams."""
    stream = LiveClient(f"{address}/live")

    hub.request_stop()

    with pytest.raises(StopIteration):
        stream.next("never")
    with pytest.raises(ResourceExhausted):
        hub.open({})
    stream.close()
