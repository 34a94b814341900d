"""The in-memory store and the scripts, driven side by side through histories that nobody thought of."""

from collections import Counter
from datetime import timedelta

from chassis import archive_calls, store_calls
from chassis.store_calls import Begun
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from waybill.operations.v1 import operations_pb2 as ops

FINAL = {"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"}
OUTCOMES = ["SUCCEEDED", "RETRIED", "FAILED", "CANCELLED", "RETURNED", "FANNED_OUT", "LOST"]
DURATIONS = st.sampled_from([timedelta(seconds=n) for n in (1, 4, 6, 16, 120)])


class Lockstep(RuleBasedStateMachine):
    """Both stores get the same calls; they answer alike, and every operation looks alike afterwards."""

    def __init__(self, desks):
        super().__init__()
        self.desks = desks
        self.ids, self.deliveries, self.runs, self.logged = [], [], [], 0
        self.states = {}

    def both(self, do):
        """What one desk answers, once the other has answered the same."""
        memory, valkey = (do(desk) for desk in self.desks)
        assert memory == valkey
        return memory

    def pick(self, data, things):
        return data.draw(st.sampled_from(things))

    @rule(
        queue=st.sampled_from(["q", "r"]),
        priority=st.sampled_from([1, 2, 3]),
        task=st.sampled_from(["t", "t", "t", "u"]),
        due=st.sampled_from([0, 0, 0, 5]),
        expires=st.sampled_from([None, None, 10]),
        scope=st.sampled_from(["", "", "a", "b"]),
        payload=st.sampled_from(["x", "x", "y"]),
        bound=st.sampled_from([0, 0, 2]),
        max_attempts=st.sampled_from([1, 2, 3]),
        data=st.data(),
    )
    def accept(self, due, expires, bound, data, **options):
        parent = data.draw(st.sampled_from(["", "", *self.ids[-5:]])) if self.ids else ""
        expires_in = None if expires is None else timedelta(seconds=expires + due)
        # Each desk counts its own names, so both give the same.
        items = [
            desk.an_acceptance(
                due_in=timedelta(seconds=due),
                expires_in=expires_in,
                parent=f"operations/test/{parent}" if parent else "",
                keep_success=timedelta(minutes=1),
                keep_failure=timedelta(minutes=3),
                **options,
            )
            for desk in self.desks
        ]
        assert items[0] == items[1]
        if self.both(lambda desk: desk.verdict(items[0], bound=bound)) == ["accepted"]:
            self.ids.append(items[0].record.id)

    @rule(
        limit=st.integers(0, 4),
        queues=st.sampled_from([("q",), ("q", "r")]),
        tasks=st.sampled_from([("t",), ("t", "u")]),
        costs=st.sampled_from([{}, {}, {"t": 2}, {"t": 2, "u": 0}, {"u": 9}]),
    )
    def fetch(self, limit, queues, tasks, costs):
        options = {"queues": queues, "tasks": tasks, "costs": costs}
        fetched = self.both(lambda desk: desk.fetched(limit, **options)).deliveries
        self.deliveries += fetched
        self.runs += [_Run(each.operation_id, each.delivery, each.begun.token) for each in fetched if each.begun]

    @precondition(lambda self: self.deliveries)
    @rule(data=st.data())
    def begin(self, data):
        delivery = self.pick(data, self.deliveries[-6:])
        answer, token = self.both(lambda desk: desk.try_to_begin(delivery))
        if isinstance(answer, Begun):
            self.runs.append(_Run(delivery.operation_id, delivery.delivery, token))

    @precondition(lambda self: self.runs)
    @rule(outcome=st.sampled_from(OUTCOMES), delay=st.sampled_from([0, 3]), data=st.data())
    def settle(self, outcome, delay, data):
        run = self.pick(data, self.runs[-6:])
        options = {"delay": timedelta(seconds=delay), "result": b"r"}
        self.both(lambda desk: desk.settle(run, outcome, **options))

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def renew(self, data):
        runs = data.draw(st.lists(st.sampled_from(self.runs[-6:]), max_size=3))
        self.both(lambda desk: desk.renew(*runs))

    @precondition(lambda self: self.runs)
    @rule(percent=st.sampled_from([0, 50]), data=st.data())
    def progress(self, percent, data):
        run = self.pick(data, self.runs[-6:])
        self.both(lambda desk: desk.run_call(store_calls.progress(run.operation_id, run.token, percent, "m")))

    @precondition(lambda self: self.deliveries)
    @rule(lost=st.booleans(), data=st.data())
    def release(self, lost, data):
        delivery = self.pick(data, self.deliveries[-6:])
        self.both(lambda desk: desk.release(delivery, lost=lost))

    @precondition(lambda self: self.ids)
    @rule(data=st.data())
    def cancel(self, data):
        operation_id = self.pick(data, self.ids[-8:])
        self.both(lambda desk: desk.cancel(operation_id))

    @precondition(lambda self: self.ids)
    @rule(data=st.data())
    def delete(self, data):
        operation_id = self.pick(data, self.ids)
        self.both(lambda desk: desk.run_call(store_calls.delete([operation_id])))

    @rule(limit=st.sampled_from([1, 200]), tail=st.sampled_from([10, 90, 600]))
    def read_for_the_archive(self, limit, tail):
        def ask(desk):
            desk.read = desk.unarchived(tail=timedelta(seconds=tail), limit=limit)
            return [(item.operation_id, item.stamp) for item in desk.read]

        self.both(ask)

    @rule(tail=st.sampled_from([10, 90, 600]))
    def mark_as_archived(self, tail):
        self.both(lambda desk: desk.run_call(archive_calls.archived(desk.read, tail=timedelta(seconds=tail))))

    @rule(limit=st.sampled_from([1, 200]))
    def retire(self, limit):
        self.both(lambda desk: desk.run_call(archive_calls.retire(limit)))

    @precondition(lambda self: self.ids)
    @rule(data=st.data())
    def discard(self, data):
        operation_id = self.pick(data, self.ids)
        self.both(lambda desk: desk.discard(operation_id))

    @precondition(lambda self: self.ids)
    @rule(data=st.data())
    def replay(self, data):
        original = self.pick(data, self.ids)
        items = [desk.an_acceptance(replayed_from=f"operations/test/{original}") for desk in self.desks]
        self.both(lambda desk: desk.verdict(items[0]))
        self.ids.append(items[0].record.id)

    @rule(paused=st.booleans())
    def pause(self, paused):
        for desk in self.desks:
            desk.bench.pause("r", paused=paused)

    @precondition(lambda self: self.ids)
    @rule(data=st.data())
    def misplace(self, data):
        operation_id = self.pick(data, self.ids[-4:])
        for desk in self.desks:
            desk.bench.misplace(operation_id)

    @rule(duration=DURATIONS, limit=st.sampled_from([1, 200]), reconcile=st.sampled_from([2, 50]))
    def pass_time_and_keep_house(self, duration, limit, reconcile):
        for desk in self.desks:
            desk.advance(duration)
        self.both(lambda desk: desk.keep_house(limit=limit, reconcile=reconcile))

    @rule(duration=DURATIONS)
    def pass_time(self, duration):
        for desk in self.desks:
            desk.advance(duration)

    @invariant()
    def every_operation_looks_alike_and_moved_legally(self):
        for operation_id in self.ids:
            seen = self.both(lambda desk, id_=operation_id: desk.observe(id_))
            before, after = self.states.get(operation_id), seen.state if seen else None
            self.states[operation_id] = after
            if seen is None:
                continue
            assert before == after or before not in FINAL, f"{before} -> {after}"
            assert seen.attempts <= 3
            if after in FINAL:
                assert seen.places <= {"finished", "dead"}
                assert ("dead" in seen.places) <= (after == "FAILED")

    @invariant()
    def the_event_logs_tell_the_same(self):
        """Per call, in any order: a script may go through a set."""
        memory, valkey = (desk.bench.log()[self.logged :] for desk in self.desks)
        self.logged += len(memory)
        assert Counter(memory) == Counter(valkey)

    @invariant()
    def every_state_change_is_legal(self):
        states = {}
        for entry in filter(lambda entry: entry.state, self.desks[0].bench.log()):
            before = states.get(entry.operation_id)
            assert before in {None, entry.state} or entry.state in LEGAL[before], entry
            states[entry.operation_id] = entry.state


class _Run:
    def __init__(self, operation_id, delivery, token):
        self.operation_id, self.delivery, self.token = operation_id, delivery, token


def _legal(**moves):
    """By the numbers of waybill.operations.v1.OperationState, final states included: they lead nowhere."""
    number = ops.OperationState.Value
    table = {number(f"OPERATION_STATE_{state}"): set() for state in FINAL}
    for before, after in moves.items():
        table[number(f"OPERATION_STATE_{before}")] = {number(f"OPERATION_STATE_{state}") for state in after}
    return table


LEGAL = _legal(
    SCHEDULED={"QUEUED", "CANCELLED", "EXPIRED"},
    QUEUED={"RUNNING", "FAILED", "CANCELLED", "EXPIRED"},
    RUNNING={"QUEUED", "RETRYING", "SUCCEEDED", "FAILED", "CANCELLED"},
    RETRYING={"QUEUED", "CANCELLED", "EXPIRED"},
)


def test_both_stores_go_the_same_way(lockstep_desks):
    """Answers, operations and event log agree after every step; every change of state is one of the lifecycle's."""
    run_state_machine_as_test(
        lambda: Lockstep(lockstep_desks()),
        settings=settings(
            max_examples=25,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
