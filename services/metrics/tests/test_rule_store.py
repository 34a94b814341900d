"""Alert rules in the database."""

from datetime import timedelta

import pytest
from chassis.errors import AlreadyExists, NotFound
from metrics_service import rule_store
from metrics_service.rules import StoredRule


def test_a_rule_comes_back_as_it_was_given(engine, noon, a_rule):
    rule = a_rule(
        where={"core": "0"},
        for_duration=timedelta(seconds=90),
        threshold=0.1,
        labels=(("severity", "page"),),
        annotations=(("summary", "100 % 🔥"),),
        disabled=True,
    )

    assert rule_store.create(engine, rule, noon) == StoredRule(rule, noon, noon)
    assert rule_store.get(engine, "cpu-high") == StoredRule(rule, noon, noon)


def test_the_same_rule_again_is_the_one_that_is_there(engine, noon, a_rule):
    first = rule_store.create(engine, a_rule(), noon)

    assert rule_store.create(engine, a_rule(), noon + timedelta(days=1)) == first


def test_a_rule_id_that_is_taken_is_refused_and_nothing_changes(engine, noon, a_rule):
    rule_store.create(engine, a_rule(), noon)

    with pytest.raises(AlreadyExists) as refused:
        rule_store.create(engine, a_rule(threshold=1.0), noon)

    assert refused.value.reason == "ALERT_RULE_EXISTS"
    assert rule_store.get(engine, "cpu-high").rule.threshold == 90.0


def test_an_update_replaces_the_rule_and_keeps_when_it_was_created(engine, noon, a_rule):
    rule_store.create(engine, a_rule(), noon)
    later = noon + timedelta(hours=1)

    assert rule_store.update(engine, a_rule(threshold=1.0), later) == StoredRule(a_rule(threshold=1.0), noon, later)


@pytest.mark.parametrize(
    "call",
    [
        lambda engine, rule, now: rule_store.get(engine, rule.rule_id),
        rule_store.update,
        lambda engine, rule, now: rule_store.delete(engine, rule.rule_id),
    ],
)
def test_a_rule_that_is_not_there_is_not_found(engine, noon, a_rule, call):
    with pytest.raises(NotFound) as refused:
        call(engine, a_rule(), noon)

    assert refused.value.reason == "ALERT_RULE_NOT_FOUND"
    assert refused.value.metadata == {"rule_id": "cpu-high"}


def test_a_deleted_rule_is_gone(engine, noon, a_rule):
    rule_store.create(engine, a_rule(), noon)

    rule_store.delete(engine, "cpu-high")

    assert rule_store.list_rules(engine, "", 10) == []


def test_rules_are_listed_page_by_page(engine, noon, a_rule):
    for name in "cabd":
        rule_store.create(engine, a_rule(rule_id=name), noon)

    first = rule_store.list_rules(engine, "", 3)
    second = rule_store.list_rules(engine, first[-1].rule.rule_id, 3)

    assert [stored.rule.rule_id for stored in first + second] == ["a", "b", "c", "d"]


def test_a_disabled_rule_is_not_evaluated(engine, noon, a_rule):
    rule_store.create(engine, a_rule(), noon)
    rule_store.create(engine, a_rule(rule_id="off", disabled=True), noon)

    with engine.connect() as connection:
        assert [rule.rule_id for rule in rule_store.enabled(connection)] == ["cpu-high"]
