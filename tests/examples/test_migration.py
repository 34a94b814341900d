"""examples/migration: what docs/migrating-from-celery.md says of plain tasks beside operations."""

import subprocess
import sys
from pathlib import Path

import pytest
from chassis.testing.harness import Harness, ServiceUnderTest
from waybill.operations.v1 import operations_pb2 as ops

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "migration"


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Gateway and worker of the shop."""
    spec = ServiceUnderTest("shop", "shop_service", environment={"PYTHONPATH": str(EXAMPLE)})
    with Harness(tmp_path_factory.mktemp("shop"), [spec]) as running:
        running.start()
        yield running


@pytest.fixture
def worker(shop):
    return shop.process("shop", "worker")


@pytest.fixture
def caller(shop):
    """Runs lines of a caller's program, in a process with the settings of the service."""

    def run(*lines):
        environment = {**shop.environment, "PYTHONPATH": str(EXAMPLE)}
        command = [sys.executable, "-c", "\n".join(lines)]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    return run


def finished(shop, line):
    """The operation that a log line names, in its final state."""
    operation, metadata = shop.finished(line["operation"])
    assert metadata.state == ops.OPERATION_STATE_SUCCEEDED, operation
    return metadata


def test_a_plain_task_is_retried_and_its_chain_goes_on(caller, worker):
    """`autoretry_for`, `countdown` and `chain` are Celery's own, and run on the service's worker."""
    caller(
        "from celery import chain",
        "from shop_service.tasks import label_image, resize_image",
        "chain(resize_image.s('a.png'), label_image.s()).apply_async(countdown=1)",
    )

    assert worker.wait_for_event("image.resized", image="a.png")
    assert worker.wait_for_event("image.labelled", image="a.png")


def test_who_still_sends_the_old_task_gets_an_operation(shop, caller, worker):
    """And one alone, however often the message comes."""
    send = "charge_card_as_before.apply_async(('order-1', 500), task_id='0b3c')"
    mark = worker.mark()
    caller("from shop_service.tasks import charge_card_as_before", send, send)

    first = worker.wait_for_event("charge.handed_over", since=mark)
    assert finished(shop, first).request_id == "0b3c"

    listed = shop.store("shop").client.zcard(shop.store("shop").keys.named("ops"))
    assert listed == 1


def test_who_calls_the_gateway_has_the_same_work_with_a_name(shop, caller):
    """The caller that has been changed: a name at once, a result to wait for."""
    name = caller(
        "from chassis.channels import channel_to",
        "from shop_service.contract import ShopStub, struct",
        "request = struct(request_id='order-2', order='order-2', cents=500)",
        "print(ShopStub(channel_to('shop')).ChargeCard(request).name)",
    ).strip()

    assert finished(shop, {"operation": name}).task == "shop.charge_card"


def test_what_is_not_offered_says_so(caller):
    """Results of plain tasks, chords, and sending an operation as a message."""
    said = caller(
        "from celery import chord",
        "from shop_service.tasks import charge_card, label_image",
        "print(label_image.delay('b.png').get(timeout=5))",
        "for call in (charge_card.delay, chord([label_image.si('c.png')]) .__call__):",
        "    try: call(label_image.si('d.png'))",
        "    except Exception as error: print(type(error).__name__)",
    )

    assert said.split() == ["None", "TypeError", "NotImplementedError"]
