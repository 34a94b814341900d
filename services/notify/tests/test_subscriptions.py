"""What is taken as an event subscription."""

import pytest
from chassis.errors import Violations
from notify_service import subscriptions
from notify_service.subscriptions import attached_report


def found(subscription):
    violations = Violations()
    subscriptions.check(subscription, "subscription", violations)
    return {violation.field for violation in violations.found}


def test_a_good_subscription_is_taken(a_subscription):
    assert found(a_subscription()) == set()


def test_everything_that_is_wrong_with_a_subscription_is_told_at_once(a_subscription):
    subscription = a_subscription("", event_type="alert.fired", template_id="", recipient_ids=["ada", "", "ada"])

    assert found(subscription) == {
        "subscription.subscription_id",
        "subscription.event_type",
        "subscription.template_id",
        "subscription.recipient_ids[1]",
        "subscription.recipient_ids[2]",
    }


@pytest.mark.parametrize("count", [0, 1_001])
def test_a_subscription_has_one_to_a_thousand_recipients(a_subscription, count):
    names = [f"r{number}" for number in range(count)]

    assert found(a_subscription(recipient_ids=names)) == {"subscription.recipient_ids"}


@pytest.mark.parametrize(
    "event_type", ["", "waybill.metrics.alert", "waybill.metrics.alert.fired.x", "x.metrics.alert.fired", "waybill.*"]
)
def test_an_event_type_has_four_parts(a_subscription, event_type):
    assert found(a_subscription(event_type=event_type)) == {"subscription.event_type"}


def test_events_of_this_service_cannot_be_subscribed_to(a_subscription):
    """Each notification would cause another, without end."""
    assert found(a_subscription(event_type="waybill.notify.delivery.delivered")) == {"subscription.event_type"}


@pytest.mark.parametrize(
    ("data", "report_id"),
    [({"report": {"report_id": "r1"}}, "r1"), ({"report": {}}, ""), ({"report": "r1"}, ""), ({}, "")],
)
def test_the_report_of_an_event_is_where_the_contract_says(data, report_id):
    assert attached_report(data) == report_id
