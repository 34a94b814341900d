"""Begin, renew, progress, settle: what counts as an attempt, whose it is, and how it ends."""

from datetime import timedelta

import pytest
from chassis import store_calls
from chassis.store_calls import CANCEL_REQUESTED, LOST, RENEWED, AttemptError, Gone, Settlement

SECOND = timedelta(seconds=1)
RESULT = b"\x00packed"


def test_begin_counts_the_attempt_and_gives_it_its_number(desk):
    """RUNNING, attempt 1, on record with its worker; the lease goes on."""
    run = desk.start()

    seen = desk.observe(run.operation_id)
    assert (run.number, run.previous_span) == (1, "")
    assert (seen.state, seen.attempts, seen.places) == ("RUNNING", 1, {"leased"})
    assert seen.log == ((1, "UNSPECIFIED", ""),)
    assert desk.verbs(run.operation_id) == ["accepted", "began"]


def test_a_delivery_begins_once(desk):
    """The same delivery again finds the operation gone."""
    delivery = desk.deliver()
    desk.begin(delivery)

    answer, _ = desk.try_to_begin(delivery)

    assert isinstance(answer, Gone)
    assert desk.observe(delivery.operation_id).attempts == 1


def test_a_begin_repeated_with_its_token_is_the_same_attempt(desk):
    """Whoever did not hear the answer asks again: the same number, counted and told once."""
    delivery = desk.deliver()
    run = desk.begin(delivery)

    answer, _ = desk.try_to_begin(delivery, token=run.token)

    assert (answer.attempt, answer.previous_span) == (run.number, run.previous_span)
    assert desk.observe(delivery.operation_id).attempts == 1
    assert desk.verbs(delivery.operation_id) == ["accepted", "began"]


def test_a_begin_repeated_after_its_attempt_has_ended_begins_nothing(desk):
    """Its token is no longer the current one, whatever came then."""
    delivery = desk.deliver()
    run = desk.begin(delivery)
    desk.pass_time(16 * SECOND)

    answer, _ = desk.try_to_begin(delivery, token=run.token)

    assert isinstance(answer, Gone)
    assert desk.observe(delivery.operation_id).attempts == 1


@pytest.mark.parametrize("end", ["cancelled", "deleted", "delivered again", "given back", "expired"])
def test_there_is_nothing_to_begin(desk, end):
    """What happened between fetch and begin is seen by begin; no attempt is counted."""
    delivery = desk.deliver(expires_in=20 * SECOND)
    if end in {"cancelled", "deleted"}:
        desk.cancel(delivery.operation_id)
    if end == "deleted":
        desk.run_call(store_calls.delete([delivery.operation_id]))
    if end == "delivered again":
        desk.pass_time(16 * SECOND)
        desk.fetch()
    if end == "given back":
        desk.release(delivery, lost=False)
    if end == "expired":
        desk.advance(20 * SECOND)

    answer, _ = desk.try_to_begin(delivery)

    assert isinstance(answer, Gone)
    seen = desk.observe(delivery.operation_id)
    assert seen is None if end == "deleted" else seen.attempts == 0
    assert end != "expired" or seen.state == "EXPIRED"


def test_expire_time_does_not_end_an_attempt_that_has_begun(desk):
    """It bounds the begin of attempts, those of retries included."""
    run = desk.start(expires_in=5 * SECOND)
    desk.pass_time(8 * SECOND)
    assert desk.state(run.operation_id) == "RUNNING"

    assert desk.settle(run, "RETRIED") == "RETRYING"
    desk.keep_house()

    assert desk.state(run.operation_id) == "EXPIRED"


def test_renew_keeps_the_lease_of_the_owner_alone(desk):
    """Another delivery's name, an ended operation and an unknown one are LOST."""
    run, ended = desk.start(), desk.start()
    desk.settle(ended, "SUCCEEDED")
    stranger = type(run)(run.operation_id, "another", "", 1, "")
    unknown = type(run)("unknown", "d", "", 1, "")

    assert desk.renew(run, stranger, ended, unknown) == [RENEWED, LOST, LOST, LOST]


def test_renewed_leases_last(desk):
    """Attempts that are renewed within the lease are never rescued; one that is not, is."""
    kept, left = desk.start(), desk.start()
    for _ in range(8):
        desk.advance(4 * SECOND)
        desk.renew(kept)
        desk.keep_house()

    assert (desk.state(kept.operation_id), desk.state(left.operation_id)) == ("RUNNING", "QUEUED")


def test_renew_tells_of_a_cancellation(desk):
    """And renews all the same: the attempt is still the current one."""
    run = desk.start()
    desk.cancel(run.operation_id)
    desk.advance(10 * SECOND)

    assert desk.renew(run) == [CANCEL_REQUESTED]
    desk.advance(10 * SECOND)
    desk.keep_house()
    assert desk.state(run.operation_id) == "RUNNING"


def test_progress_is_kept_and_told_once_per_change(desk):
    """The same report again adds no event."""
    run = desk.start()

    def report(percent, message, token=run.token):
        return desk.run_call(store_calls.progress(run.operation_id, token, percent, message))

    assert [report(10, "a"), report(10, "a"), report(20, "a")] == [RENEWED] * 3
    assert report(99, "z", token="another") == LOST
    assert desk.observe(run.operation_id).progress == (20, "a")
    assert desk.verbs(run.operation_id).count("progressed") == 2

    desk.cancel(run.operation_id)
    assert report(30, "b") == CANCEL_REQUESTED
    desk.settle(run, "SUCCEEDED")
    assert report(40, "c") == LOST


def test_asking_reports_nothing(desk):
    """An attempt that only asks whether it should stop leaves progress and event log alone."""
    run = desk.start()

    assert desk.run_call(store_calls.ask(run.operation_id, run.token)) == RENEWED
    desk.cancel(run.operation_id)
    assert desk.run_call(store_calls.ask(run.operation_id, run.token)) == CANCEL_REQUESTED
    assert desk.run_call(store_calls.ask(run.operation_id, "another")) == LOST

    assert desk.observe(run.operation_id).progress is None
    assert "progressed" not in desk.verbs(run.operation_id)


def test_success_keeps_the_result(desk):
    """SUCCEEDED, the lease is gone, the result is there, no error."""
    run = desk.start()

    assert desk.settle(run, "SUCCEEDED", result=RESULT) == "SUCCEEDED"

    seen = desk.observe(run.operation_id)
    assert (seen.result, seen.error, seen.places) == (RESULT, None, {"finished"})
    assert seen.log == ((1, "SUCCEEDED", ""),)


def test_a_retry_waits_for_its_delay_and_links_to_the_attempt_before(desk):
    """RETRYING until due, then attempt 2, which knows the span of attempt 1; the error stays on record."""
    run = desk.start()
    assert desk.settle(run, "RETRIED", delay=3 * SECOND) == "RETRYING"
    seen = desk.observe(run.operation_id)
    assert (seen.places, seen.due_us) == ({"due"}, desk.bench.now_us + 3_000_000)
    assert desk.fetch() == []

    desk.advance(3 * SECOND)
    second = desk.again(run.operation_id)

    assert second.number == 2
    assert second.previous_span
    assert desk.observe(run.operation_id).log == ((1, "RETRIED", "BROKEN"), (2, "UNSPECIFIED", ""))
    assert desk.settle(second, "SUCCEEDED") == "SUCCEEDED"
    assert desk.observe(run.operation_id).error is None


def test_a_failure_is_a_dead_letter(desk):
    """FAILED with the attempt's error; kept as long as failures are kept."""
    run = desk.start(keep_success=SECOND, keep_failure=10 * SECOND)

    assert desk.settle(run, "FAILED", AttemptError(9, "no", "NEVER", b"")) == "FAILED"

    seen = desk.observe(run.operation_id)
    assert (seen.error, seen.places) == ((9, "NEVER", "no"), {"finished", "dead"})
    desk.pass_time(9 * SECOND)
    assert desk.state(run.operation_id) == "FAILED"
    desk.pass_time(SECOND)
    assert desk.observe(run.operation_id) is None


def test_a_returned_attempt_does_not_count(desk):
    """It goes back to its place, not to the end; its number is used again, and it bears nobody else's error."""
    run = desk.start()
    desk.settle(run, "RETRIED")
    second = desk.again(run.operation_id)
    desk.advance(SECOND)
    later = desk.accept()

    assert desk.settle(second, "RETURNED") == "QUEUED"

    seen = desk.observe(run.operation_id)
    assert (seen.attempts, seen.returns, seen.places) == (1, 1, {"queue"})
    assert seen.log == ((1, "RETRIED", "BROKEN"), (2, "RETURNED", ""))
    deliveries = desk.fetched().deliveries
    assert [delivery.operation_id for delivery in deliveries] == [run.operation_id, later]
    third = desk.begin(deliveries[0])
    assert (third.number, desk.observe(run.operation_id).log[1]) == (2, (2, "UNSPECIFIED", ""))


def test_the_eleventh_return_counts_as_lost(desk):
    """A drain that never ends cannot keep an operation from its attempts for ever."""
    operation_id = desk.accept(max_attempts=2)
    for _ in range(10):
        assert desk.settle(desk.again(operation_id), "RETURNED") == "QUEUED"

    assert desk.settle(desk.again(operation_id), "RETURNED") == "QUEUED"
    assert desk.observe(operation_id).log[-1] == (1, "LOST", "WORKER_LOST")

    assert desk.settle(desk.again(operation_id), "RETURNED") == "FAILED"
    assert desk.observe(operation_id).log[-1] == (2, "LOST", "WORKER_LOST")


@pytest.mark.parametrize("outcome", ["SUCCEEDED", "RETRIED", "FAILED", "CANCELLED", "RETURNED", "FANNED_OUT", "LOST"])
def test_a_settle_with_another_token_is_refused_and_recorded(desk, outcome):
    """An attempt that was taken over changes nothing, whatever it says; the event log knows of it."""
    first = desk.start()
    desk.pass_time(16 * SECOND)
    second = desk.again(first.operation_id)
    before = desk.observe(first.operation_id)

    assert desk.settle(first, outcome, result=RESULT) == "stale"

    assert desk.observe(first.operation_id) == before
    assert desk.verbs(first.operation_id)[-1] == "fenced"
    assert desk.settle(second, "SUCCEEDED") == "SUCCEEDED"


def test_settles_share_a_call_and_stand_alone(desk):
    """Each is answered by itself; a stale one does not hinder its neighbours."""
    good, bad = desk.start(), desk.start()
    items = [
        Settlement(bad.operation_id, "another", 1),
        Settlement(good.operation_id, good.token, 1),
        Settlement("unknown", "t", 1),
    ]

    assert desk.run_call(store_calls.settle(items)) == [None, 5, None]
    assert (desk.state(good.operation_id), desk.state(bad.operation_id)) == ("SUCCEEDED", "RUNNING")


@pytest.mark.parametrize("outcome", ["RETRIED", "FAILED", "CANCELLED", "RETURNED", "FANNED_OUT"])
def test_a_requested_cancellation_wins_over_every_end_but_success(desk, outcome):
    """CANCELLED, with the code CANCELLED; nothing is attempted again."""
    run = desk.start()
    assert desk.cancel(run.operation_id) == ["requested"]
    assert desk.observe(run.operation_id).cancel_requested

    assert desk.settle(run, outcome) == "CANCELLED"

    seen = desk.observe(run.operation_id)
    assert (seen.error[0], seen.error[1], seen.cancel_requested) == (1, "CANCELLED", False)
    assert seen.log == ((1, "CANCELLED", "CANCELLED"),)


def test_a_success_that_settles_first_wins_over_a_cancellation(desk):
    """The result is there; a later cancel finds a final state."""
    run = desk.start()
    desk.cancel(run.operation_id)

    assert desk.settle(run, "SUCCEEDED", result=RESULT) == "SUCCEEDED"

    assert desk.cancel(run.operation_id) == ["final"]
    seen = desk.observe(run.operation_id)
    assert (seen.state, seen.result, seen.cancel_requested) == ("SUCCEEDED", RESULT, False)


def test_a_cancelled_attempt_whose_worker_dies_is_cancelled(desk):
    """No further attempt; to the client it is CANCELLED, and the record says that the worker was lost."""
    run = desk.start()
    desk.cancel(run.operation_id)

    desk.pass_time(16 * SECOND)

    seen = desk.observe(run.operation_id)
    assert (seen.state, seen.error[:2]) == ("CANCELLED", (1, "CANCELLED"))
    assert seen.log == ((1, "LOST", "WORKER_LOST"),)


def test_the_last_attempt_that_is_lost_is_the_end(desk):
    """A worker killed has used an attempt; when all are used the operation is a dead letter."""
    operation_id = desk.accept(max_attempts=2)
    desk.again(operation_id)
    desk.pass_time(16 * SECOND)
    assert (desk.state(operation_id), desk.observe(operation_id).attempts) == ("QUEUED", 1)

    desk.again(operation_id)
    desk.pass_time(16 * SECOND)

    seen = desk.observe(operation_id)
    assert (seen.state, seen.error[1]) == ("FAILED", "WORKER_LOST")
    assert seen.log == ((1, "LOST", "WORKER_LOST"), (2, "LOST", "WORKER_LOST"))


def test_final_states_never_change(desk):
    """Nothing that can be called moves an operation that has ended; only forgetting it does."""
    runs = {outcome: desk.start(queue=outcome) for outcome in ("SUCCEEDED", "FAILED")}
    for outcome, run in runs.items():
        desk.settle(run, outcome)
    cancelled, expired = desk.accept(), desk.accept(expires_in=SECOND)
    desk.cancel(cancelled)
    desk.pass_time(2 * SECOND)
    ids = [*(run.operation_id for run in runs.values()), cancelled, expired]
    before = [desk.observe(id_) for id_ in ids]
    assert [seen.state for seen in before] == ["SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"]

    for run in runs.values():
        desk.settle(run, "RETRIED")
        desk.renew(run)
        desk.release(run, lost=True)
    assert desk.cancel(*ids) == ["final"] * 4
    desk.pass_time(60 * SECOND)
    assert desk.fetch(queues=("q", "SUCCEEDED", "FAILED")) == []

    assert [desk.observe(id_) for id_ in ids] == before
