"""Plain Celery tasks as they came, and one that has become an operation."""

from __future__ import annotations

from celery import Task
from chassis.channels import channel_to
from chassis.errors import PermanentError
from chassis.logging import get_logger
from chassis.retries import RetryPolicy
from chassis.worker import Attempt
from google.protobuf.struct_pb2 import Struct

from shop_service import contract
from shop_service.app import app

log = get_logger(__name__)


# As it came: messages of Celery's own, with Celery's guarantees.


@app.task(name="shop.tasks.resize_image", bind=True, autoretry_for=(ConnectionError,), default_retry_delay=1)
def resize_image(self: Task, image: str) -> str:
    """Its first run fails, and Celery retries it."""
    if self.request.retries == 0:
        raise ConnectionError("the image store is away")
    log.info("image.resized", image=image)
    return image


@app.task(name="shop.tasks.label_image")
def label_image(image: str) -> None:
    """Takes what the task before it in a chain returned."""
    log.info("image.labelled", image=image)


# Migrated: an operation, with attempts, a state and a trace.


@app.task(name="shop.charge_card", policy=RetryPolicy(max_attempts=3))
def charge_card(attempt: Attempt, request: Struct) -> Struct:
    """Charge once, whatever is repeated: the payment provider is given the key of the operation's effects."""
    if request["cents"] <= 0:
        raise PermanentError("there is nothing to charge", reason="NOTHING_TO_CHARGE")
    log.info("card.charged", idempotency_key=attempt.effect_id, cents=request["cents"])
    return contract.struct(order=request["order"], charge=attempt.effect_id)


# What remains of the task by which it used to be done: callers that have not been changed yet go on sending it.


@app.task(name="shop.tasks.charge_card", bind=True, autoretry_for=(Exception,), max_retries=None)
def charge_card_as_before(self: Task, order: str, cents: int) -> None:
    """Hands the work over, under the message's own id: a message that Celery repeats is the same operation."""
    charge = contract.struct(request_id=self.request.id, order=order, cents=cents)
    accepted = contract.ShopStub(channel_to("shop")).ChargeCard(charge)
    log.info("charge.handed_over", operation=accepted.name)
