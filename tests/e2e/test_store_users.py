"""Every process as a user of the store that reaches its own keys alone: `deploy/redis/users.acl`, as it is shipped."""

import subprocess
import sys
from pathlib import Path

import pytest
import redis
from waybill.admin.v1 import admin_pb2, admin_pb2_grpc

from tests import incident
from tests.stack import NAMES, SERVICES, Stack, until

RULES = Path(__file__).parents[2] / "deploy/redis/users.acl"
PUBLISHERS = ("scheduler", "subscriber")

pytestmark = [pytest.mark.slow, pytest.mark.thorough, pytest.mark.own_outage]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """All services; nobody but the tests may come in without a password."""
    with Stack(tmp_path_factory.mktemp("users")) as stack:
        stack.valkey.start()
        with redis.Redis.from_url(stack.valkey.url) as admin:
            for line in RULES.read_text().splitlines():
                _, name, *rules = line.split()
                if name != "default":
                    admin.execute_command("ACL", "SETUSER", name, *rules, f">{name}")
        for service in SERVICES:
            for role in service.roles:
                user = f"{service.name}-publisher" if role in PUBLISHERS else service.name
                stack.add(service.name, role, environment={"WAYBILL_REDIS_URL": url_of(stack, user)})
        stack.start()
        yield stack


@pytest.fixture(autouse=True)
def nothing_refused(guarded):
    """By the server, of anything that a test has led to."""
    yield
    with redis.Redis.from_url(guarded.valkey.url, decode_responses=True) as admin:
        assert [(entry["username"], entry["reason"], entry["object"]) for entry in admin.acl_log()] == []


def workers(stack, service):
    return stack.stub(service, admin_pb2_grpc.WorkerServiceStub)


def listed(stack, service):
    return workers(stack, service).ListWorkers(admin_pb2.ListWorkersRequest(service=service)).workers


def celery(stack, service, *arguments):
    """Celery's own command, as the service's user; what it prints."""
    command = [sys.executable, "-m", "celery", "--app", f"{service}_service.tasks", *arguments]
    environment = {**stack.environment, "WAYBILL_REDIS_URL": url_of(stack, service)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def url_of(stack, user):
    return stack.valkey.url.replace("redis://", f"redis://{user}:{user}@")


def test_the_incident_runs(guarded):
    """Over all services, with the events that they follow of each other."""
    told = incident.run(guarded)
    incident.unsubscribe(guarded, told.alert.rule_id)

    assert len(told.mails) == 2


@pytest.mark.parametrize("service", NAMES)
def test_workers_are_steered(guarded, service):
    """By what goes through the store's channels."""
    (before,) = until(lambda: listed(guarded, service), f"the worker of {service}")
    request = admin_pb2.SetConcurrencyRequest(service=service, worker=before.name, concurrency=before.concurrency + 1)

    workers(guarded, service).SetConcurrency(request)

    until(lambda: listed(guarded, service)[0].concurrency == before.concurrency + 1, f"another slot of {service}")


def test_celerys_own_tools_are_answered(guarded):
    """Remote control, and the events that Flower lives by."""
    with celery(guarded, "notify", "control", "enable_events") as asked:
        assert "task events enabled" in asked.stdout.read()
    with celery(guarded, "notify", "events", "--dump") as watching:
        seen = any(" heartbeat: " in line for line in watching.stdout)
        watching.terminate()

    assert seen
