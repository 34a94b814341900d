import threading

from dashboard_service import cursors
from dashboard_service.feed import Entry, resync
from dashboard_service.streams import Position, Stream, frame


def a_change(number, service="metrics"):
    return Entry(service, "change", f"{number}-0", f'{{"n":{number}}}', f"operations/{service}/{number}")


def everything(_entry):
    return True


def test_entries_leave_in_the_order_in_which_they_came():
    """Batches change nothing about the order."""
    stream = Stream()
    for number in range(5):
        stream.offer(a_change(number))

    batch = stream.take(0)

    assert [entry.cursor for entry in batch.entries] == [f"{number}-0" for number in range(5)]
    assert not batch.ended


def test_a_stream_that_is_too_slow_ends_behind_what_it_took():
    """What waits is sent, in order, without a hole; then the stream ends and the browser resumes from its last id."""
    stream = Stream(max_waiting=3)
    for number in range(10):
        stream.offer(a_change(number))

    batch = stream.take(0)

    assert [entry.cursor for entry in batch.entries] == ["0-0", "1-0", "2-0"]
    assert batch.ended


def test_catching_up_waits_for_the_browser():
    """A replay is as quick as its reader, and memory stays bounded."""
    stream = Stream(max_waiting=4)
    pushing = threading.Thread(target=lambda: [stream.push(a_change(number)) for number in range(20)])
    pushing.start()
    seen = []

    while len(seen) < 20:
        seen += [entry.cursor for entry in stream.take(10).entries]
    pushing.join()

    assert seen == [f"{number}-0" for number in range(20)]


def test_closing_lets_a_waiting_replay_go():
    """A browser that leaves in the middle of a replay leaves no thread behind."""
    stream = Stream(max_waiting=2)
    results = []
    pushing = threading.Thread(target=lambda: results.extend(stream.push(a_change(each)) for each in range(3)))
    pushing.start()

    stream.close()
    pushing.join(10)

    assert results[-1] is False
    assert not pushing.is_alive()


def test_what_waits_for_the_end_runs_once_even_when_it_comes_late():
    """A call that is opened while the browser leaves is cancelled too."""
    stream, ran = Stream(), []
    stream.on_end(lambda: ran.append("early"))

    stream.close()
    stream.close()
    stream.on_end(lambda: ran.append("late"))

    assert ran == ["early", "late"]


def test_a_frames_id_covers_what_was_sent_up_to_it():
    """The id holds the last cursor of every service, of entries that were left out as well."""
    position = Position({"notify": "3-0"})
    wanted = {"1-0", "4-0"}

    frames = list(
        position.frames([a_change(1), a_change(2), a_change(4, "reports")], lambda entry: entry.cursor in wanted)
    )

    assert len(frames) == 1
    identity = frames[0].decode().split("id: ")[1].split("\n")[0]
    assert cursors.decode(identity) == {"metrics": "2-0", "notify": "3-0", "reports": "4-0"}
    assert b'data: [{"n":1},{"n":4}]' in frames[0]


def test_a_resync_forgets_the_services_position():
    """After it the id names no position of that service that is no longer kept."""
    position = Position({"metrics": "1-0", "notify": "3-0"})

    frames = list(position.frames([resync("metrics")], everything))

    assert frames == [b'event: resync\ndata: {"service":"metrics"}\n\n']
    assert cursors.decode(position.identity) == {"notify": "3-0"}


def test_a_heartbeat_carries_the_id_alone():
    """The browser's last id moves although nothing is shown."""
    position = Position({})
    assert position.heartbeat() == b":\n\n"

    list(position.frames([Entry("metrics", "position", "8-0")], everything))

    assert position.heartbeat() == f"id: {cursors.encode({'metrics': '8-0'})}\n\n".encode()


def test_data_with_line_breaks_stays_one_event():
    """No text can end a frame early or begin another."""
    assert frame("panel", "a\n\nevent: x") == b"event: panel\ndata: a\ndata: \ndata: event: x\n\n"
