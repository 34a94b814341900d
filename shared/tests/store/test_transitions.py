"""Every state, everything that can happen to an operation in it, and the state that follows."""

from datetime import timedelta

import pytest
from chassis import store_calls

SECOND = timedelta(seconds=1)
#: Longer than any due time or lease below, shorter than expire times and retention.
LATER = timedelta(seconds=16)

# Besides the eight states, three that clients see as QUEUED and RUNNING: DELIVERED has a lease and no attempt yet,
# WAITING has fanned out, TOLD runs and is to end because a client has cancelled it.
STATES = (
    *("SCHEDULED", "QUEUED", "DELIVERED", "RUNNING", "TOLD", "WAITING", "RETRYING"),
    *("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"),
)
FINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"})

# What happens -> where it leads from each state. A state that is not named stays as it is.
TRANSITIONS = {
    "fetched": {"QUEUED": "DELIVERED"},
    "begun": {"DELIVERED": "RUNNING"},
    "settled SUCCEEDED": {"RUNNING": "SUCCEEDED", "TOLD": "SUCCEEDED"},
    "settled RETRIED": {"RUNNING": "RETRYING", "TOLD": "CANCELLED"},
    "settled FAILED": {"RUNNING": "FAILED", "TOLD": "CANCELLED"},
    "settled CANCELLED": {"RUNNING": "CANCELLED", "TOLD": "CANCELLED"},
    "settled RETURNED": {"RUNNING": "QUEUED", "TOLD": "CANCELLED"},
    "settled LOST": {"RUNNING": "QUEUED", "TOLD": "CANCELLED"},
    "settled FANNED_OUT": {"RUNNING": "WAITING", "TOLD": "CANCELLED"},
    "settled by another attempt": {},
    "renewed": {},
    "released by a drain": {"DELIVERED": "QUEUED"},
    "released by a death": {"DELIVERED": "QUEUED", "RUNNING": "QUEUED", "TOLD": "CANCELLED"},
    "cancelled": {
        **dict.fromkeys(("SCHEDULED", "QUEUED", "DELIVERED", "WAITING", "RETRYING"), "CANCELLED"),
        "RUNNING": "TOLD",
    },
    "its child ends": {"WAITING": "SUCCEEDED"},
    "time passes": {
        **dict.fromkeys(("SCHEDULED", "DELIVERED", "RUNNING", "RETRYING"), "QUEUED"),
        "TOLD": "CANCELLED",
    },
    "expire_time passes": dict.fromkeys(("SCHEDULED", "QUEUED", "DELIVERED", "RETRYING"), "EXPIRED")
    | {"RUNNING": "EXPIRED", "TOLD": "CANCELLED"},
    "retention passes": dict.fromkeys(FINAL),
    "deleted": dict.fromkeys(FINAL),
}


class Case:
    """An operation brought into a state, and what can be done to it."""

    def __init__(self, desk):
        self.desk, self.child, self.run = desk, None, None

    def bring_into(self, state):
        options = {
            "keep_success": timedelta(days=2),
            "keep_failure": timedelta(days=2),
            "expires_in": timedelta(days=1),
        }
        if state in {"SCHEDULED", "EXPIRED"}:
            self.id = self.desk.accept(due_in=10 * SECOND, **options)
        else:
            self.id = self.desk.accept(**options)
        if state == "EXPIRED":
            self.desk.advance(timedelta(days=1))
            self.desk.keep_house()
        if state not in {"SCHEDULED", "QUEUED", "EXPIRED", "CANCELLED"}:
            (self.delivery,) = self.desk.fetched().deliveries
            if state != "DELIVERED":
                self.run = self.desk.begin(self.delivery)
        self.outcome = {"WAITING": "FANNED_OUT", "RETRYING": "RETRIED"}.get(state, state)
        if state == "WAITING":
            self.child = self.desk.accept(parent=f"operations/test/{self.id}", queue="children")
        if self.outcome in {"FANNED_OUT", "RETRIED", "SUCCEEDED", "FAILED"}:
            self.desk.settle(self.run, self.outcome, **({"delay": 10 * SECOND} if state == "RETRYING" else {}))
        if state in {"CANCELLED", "TOLD"}:
            self.desk.cancel(self.id)
        assert self.state() == state

    def state(self):
        """One of STATES; None once it is forgotten."""
        seen = self.desk.observe(self.id)
        if seen is None:
            return None
        if seen.state == "QUEUED" and "leased" in seen.places:
            return "DELIVERED"
        if seen.state == "RUNNING" and seen.cancel_requested:
            return "TOLD"
        return "WAITING" if seen.state == "RUNNING" and "leased" not in seen.places else seen.state

    def happen(self, what):
        word, _, rest = what.partition(" ")
        if word == "settled":
            self.settle("SUCCEEDED" if rest == "by another attempt" else rest, own=rest != "by another attempt")
        elif word == "released":
            self.desk.release(self.held(), lost=rest == "by a death")
        else:
            getattr(self, what.replace(" ", "_"))()

    def held(self):
        """The last delivery; one that never was where there has been none."""
        return getattr(self, "delivery", None) or _Stranger(self.id)

    def settle(self, outcome, *, own):
        run = self.run if own and self.run else _Stranger(self.id)
        if outcome == "FANNED_OUT" and self.state() == "RUNNING":
            self.desk.accept(parent=f"operations/test/{self.id}", queue="children")
        self.desk.settle(run, outcome, **({"delay": SECOND} if outcome == "RETRIED" else {}))

    def fetched(self):
        self.desk.fetch()

    def begun(self):
        self.desk.try_to_begin(self.held())

    def renewed(self):
        self.desk.renew(self.held())

    def cancelled(self):
        self.desk.cancel(self.id)

    def its_child_ends(self):
        if self.child:
            self.desk.cancel(self.child)

    def time_passes(self):
        self.desk.pass_time(LATER)

    def retention_passes(self):
        if self.state() in FINAL:
            self.desk.advance(timedelta(days=2))
            self.desk.keep_house()

    def deleted(self):
        self.desk.run_call(store_calls.delete([self.id]))


class _Stranger:
    delivery = token = "another"

    def __init__(self, operation_id):
        self.operation_id = operation_id


def expected(state, what):
    return TRANSITIONS[what].get(state, state)


@pytest.mark.parametrize("what", [what for what in TRANSITIONS if what != "expire_time passes"])
@pytest.mark.parametrize("state", STATES)
def test_what_happens_leads_where_the_table_says(desk, state, what):
    """The whole matrix: no other call changes a state, and final states never change."""
    case = Case(desk)
    case.bring_into(state)

    case.happen(what)

    assert case.state() == expected(state, what)


@pytest.mark.parametrize("state", [state for state in STATES if state not in FINAL])
def test_expire_time_ends_whatever_has_not_begun(desk, state):
    """An attempt that runs is left to its worker; when it is lost, the operation has expired."""
    case = Case(desk)
    case.bring_into(state)
    desk.advance(timedelta(days=1))
    for _ in range(2):
        desk.keep_house()
        desk.pass_time(LATER)

    assert case.state() == expected(state, "expire_time passes")


def test_the_table_names_states_alone():
    """A misspelt state in the table would never be looked at."""
    for what, moves in TRANSITIONS.items():
        assert set(moves) | {state for state in moves.values() if state} <= set(STATES), what


def test_final_states_lead_nowhere_but_out():
    """Law 6, read off the table."""
    assert all(moves.get(state) is None for moves in TRANSITIONS.values() for state in FINAL)
