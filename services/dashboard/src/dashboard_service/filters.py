"""Which operations somebody asks for, as ListOperations and its like are asked. Pure.

The language (a subset of AIP-160) is the services': what an expression says is passed on as it is.
"""

import re
from dataclasses import dataclass

from dashboard_service.operation_rows import FINAL_STATES, STATES
from dashboard_service.problems import Problem

FIELD = "filter"
LIVE = " OR ".join(f"state={state}" for state in STATES if state not in FINAL_STATES)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_CHOICE = re.compile(r"\bOR\b")


@dataclass(frozen=True, slots=True)
class OperationFilter:
    """Empty fields mean all. `text` is looked for in what a page shows, by the page."""

    service: str = ""
    state: str = ""
    text: str = ""
    expression: str = ""

    @property
    def asked(self) -> str:
        """What the services are asked for."""
        return conjoin(f"state={self.state}" if self.state else "", self.expression)

    def arguments(self, **others: str) -> dict[str, str]:
        """For the address of a page that shows the same."""
        values = {"service": self.service, "state": self.state, "text": self.text, FIELD: self.expression, **others}
        return {name: value for name, value in values.items() if value}


def conjoin(*expressions: str) -> str:
    """All of them at once; empty ones say nothing. One that holds a choice stands in parentheses."""
    given = [each.strip() for each in expressions if each.strip()]
    if len(given) < 2:  # noqa: PLR2004 (nothing is joined)
        return "".join(given)
    return " AND ".join(f"({each})" if _CHOICE.search(_QUOTED.sub("", each)) else each for each in given)


def complaint(problem: Problem) -> str:
    """What a service says is wrong with the filter; empty where its answer is about something else."""
    return next((each.description for each in problem.violations if each.field == FIELD), "")
