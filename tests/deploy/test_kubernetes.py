"""What deploy/kubernetes renders: fresh, valid by Kubernetes' own schemas, and true to the services that it runs."""

import importlib
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from chassis.settings import ServiceSettings, load, prefix_of
from chassis.testing.callers import Callers

from conftest import infrastructure

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/kubernetes"
SERVICES = ("metrics", "notify", "reports")
KUBERNETES = "1.34"
CERTIFICATES = ROOT / "shared/tests/certificates"
#: What a secret holds, as somebody may fill it in.
SECRETS = {
    "WAYBILL_REDIS_URL": "rediss://reports:secret@redis.example.com:6379/0",
    "METRICS_DATABASE_URL": "postgresql://metrics@db.example.com/metrics",
    "NOTIFY_DATABASE_URL": "postgresql://notify@db.example.com/notify",
    "NOTIFY_MAIL_URL": "smtp://mail.example.com:587",
    "REPORTS_DATABASE_URL": "postgresql://reports@db.example.com/reports",
}


class Manifests:
    """The resources of one service, by kind and name."""

    def __init__(self, service):
        self.service = service
        self.all = list(yaml.safe_load_all((FOLDER / service / "service.yaml").read_text(encoding="utf-8")))

    def named(self, kind, name):
        (found,) = [each for each in self.of(kind) if each["metadata"]["name"] == name]
        return found

    def of(self, kind):
        return [each for each in self.all if each["kind"] == kind]

    @property
    def pods(self):
        """The pod template of each deployment, by its role."""
        return {
            each["metadata"]["labels"]["app.kubernetes.io/component"]: each["spec"]["template"]
            for each in self.of("Deployment")
        }

    @property
    def environment(self):
        """What a process gets, with secrets filled in and a certificate that is here."""
        settings = self.named("ConfigMap", f"{self.service}-settings")["data"]
        files = {"tls.crt": "reports.pem", "tls.key": "reports.key", "ca.crt": "ca.pem"}
        mounted = {
            name: str(CERTIFICATES / files[Path(value).name]) if value.startswith("/etc/waybill/tls/") else value
            for name, value in settings.items()
        }
        (container,) = next(iter(self.pods.values()))["spec"]["containers"]
        return {**mounted, **{each["name"]: SECRETS[each["name"]] for each in container.get("env", ())}}


@pytest.fixture(params=SERVICES)
def manifests(request):
    return Manifests(request.param)


@pytest.fixture(params=[*SERVICES, "dashboard"])
def every(request):
    return Manifests(request.param)


@pytest.fixture
def loaded(monkeypatch):
    """The settings that the pods of a service have."""

    def load_of(manifests, **changes):
        for name in [name for name in os.environ if name.startswith(("WAYBILL_", f"{manifests.service.upper()}_"))]:
            monkeypatch.delenv(name)
        for name, value in {**manifests.environment, **changes}.items():
            monkeypatch.setenv(name, value)
        module = importlib.import_module(f"{manifests.service}_service.settings")
        (cls,) = [
            each
            for each in vars(module).values()
            if isinstance(each, type) and issubclass(each, ServiceSettings) and prefix_of(each)
        ]
        return load(cls)

    return load_of


def matches(selector, labels):
    return selector.items() <= labels.items()


def test_the_manifests_are_what_the_template_and_the_values_render():
    """Nobody has edited one by hand, or forgotten `make kubernetes`."""
    done = subprocess.run(
        [sys.executable, "tools/kubernetes.py", "--check"], cwd=ROOT, capture_output=True, check=False
    )

    assert (done.returncode, done.stdout) == (0, b"")


def test_every_resource_of_kubernetes_is_valid(every):
    """By the schemas of an older and a newer release, unknown fields refused; KEDA's kinds have none there."""
    own = [each for each in every.all if not each["apiVersion"].startswith("keda.sh/")]

    for resource in own:
        for version in (KUBERNETES, kubernetes_validate.latest_version()):
            kubernetes_validate.validate(resource, version, strict=True)

    kinds = set() if every.service == "dashboard" else {"ScaledObject", "TriggerAuthentication"}
    assert {each["kind"] for each in every.all} - {each["kind"] for each in own} == kinds


@pytest.mark.needs("kustomize")
def test_kustomize_builds_the_folder(every):
    """The same resources come out, under the names that an overlay changes them by."""
    done = subprocess.run(
        [infrastructure("kustomize"), "build", str(FOLDER / every.service)], capture_output=True, check=True
    )

    built = {(each["kind"], each["metadata"]["name"]) for each in yaml.safe_load_all(done.stdout)}
    assert built == {(each["kind"], each["metadata"]["name"]) for each in every.all}


def test_no_pod_may_do_more_than_it_needs(every):
    """Not root, no privileges to gain, no capability, a read-only root file system, no token of the cluster."""
    for pod in (each["spec"] for each in every.pods.values()):
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod["automountServiceAccountToken"] is False
        assert {"/var/lib/waybill", "/tmp"} <= {mount["mountPath"] for mount in container["volumeMounts"]}


def test_secrets_come_by_reference_alone(every):
    """No value of a secret stands in a manifest, and no setting that is a secret stands in the ConfigMap."""
    settings = every.named("ConfigMap", f"{every.service}-settings")["data"]

    assert every.of("Secret") == []
    assert not settings.keys() & SECRETS.keys()
    for pod in every.pods.values():
        (container,) = pod["spec"]["containers"]
        assert all("secretKeyRef" in each["valueFrom"] for each in container.get("env", ()))


def test_the_settings_of_the_pods_are_accepted(manifests, loaded):
    """TLS is on, nothing is insecure, and nothing is missing or contradicts something else."""
    settings = loaded(manifests)

    assert settings.waybill.tls
    assert not settings.waybill.insecure
    port = manifests.named("Service", f"{manifests.service}-gateway")["spec"]["ports"][0]["port"]
    assert settings.listen.endswith(f":{port}")
    assert settings.waybill.targets[manifests.service] == f"{manifests.service}-gateway:{port}"


def test_the_dashboard_is_closed_and_finds_the_gateways(loaded, tmp_path):
    """TLS, a file of tokens, the routes that the services have; its page is asked over TLS whether it is well."""
    manifests = Manifests("dashboard")
    callers = Callers.written(tmp_path / "tokens.json")

    settings = loaded(manifests, WAYBILL_TOKENS_FILE=str(callers.path))

    assert settings.waybill.tls
    assert settings.waybill.asks_who_calls
    assert not settings.waybill.insecure
    for service in SERVICES:
        (port,) = Manifests(service).named("Service", f"{service}-gateway")["spec"]["ports"]
        assert settings.waybill.targets[service] == f"{service}-gateway:{port['port']}"
    pod = manifests.pods["web"]["spec"]
    (container,) = pod["containers"]
    probe = container["readinessProbe"]["httpGet"]
    assert (probe["path"], probe["scheme"]) == ("/healthz", "HTTPS")
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pause + settings.waybill.grace_seconds < pod["terminationGracePeriodSeconds"]


def test_a_gateway_is_asked_for_its_health_by_grpc_and_drains(manifests):
    """Readiness by Kubernetes' own gRPC probe at the port for probes; an old gateway goes when the new one is ready."""
    deployment = manifests.named("Deployment", f"{manifests.service}-gateway")["spec"]
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    settings = manifests.named("ConfigMap", f"{manifests.service}-settings")["data"]
    health = int(settings[f"{manifests.service.upper()}_HEALTH_LISTEN"].rpartition(":")[2])

    assert container["readinessProbe"]["grpc"] == {"port": health}
    assert "grpc" not in container["livenessProbe"], "an outage of the store would start every gateway anew"
    assert deployment["replicas"] >= 2
    assert deployment["minReadySeconds"] > 0
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pause + float(settings["WAYBILL_GRACE_SECONDS"]) < pod["terminationGracePeriodSeconds"]


def test_a_worker_may_finish_its_longest_task(manifests):
    """The grace period is above every task's timeout."""
    app = importlib.import_module(f"{manifests.service}_service.tasks").app
    longest = max(task.timeout for task in app.operation_tasks.values())

    grace = manifests.pods["worker"]["spec"]["terminationGracePeriodSeconds"]

    assert timedelta(seconds=grace) > longest


def test_the_workers_are_scaled_by_the_gateways_own_scaler(manifests):
    """KEDA alone sets the number, asks the gateway over TLS, and shows the certificate of the service."""
    (scaled,) = manifests.of("ScaledObject")
    (trigger,) = scaled["spec"]["triggers"]
    (credentials,) = manifests.of("TriggerAuthentication")
    service = manifests.named("Service", f"{manifests.service}-gateway")

    deployment = manifests.named("Deployment", scaled["spec"]["scaleTargetRef"]["name"])
    assert "replicas" not in deployment["spec"]
    assert trigger["type"] == "external-push"
    name, _, port = trigger["metadata"]["scalerAddress"].partition(":")
    assert (name, int(port)) == (service["metadata"]["name"], service["spec"]["ports"][0]["port"])
    assert trigger["authenticationRef"]["name"] == credentials["metadata"]["name"]
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    assert {each["parameter"] for each in credentials["spec"]["secretTargetRef"]} == {
        "caCert",
        "tlsClientCert",
        "tlsClientKey",
    }


def test_what_selects_pods_selects_those_of_one_role(manifests):
    """Services, disruption budgets and network policies reach the pods that they are meant for."""
    labels = {role: pod["metadata"]["labels"] for role, pod in manifests.pods.items()}

    assert matches(manifests.of("Service")[0]["spec"]["selector"], labels["gateway"])
    for budget in manifests.of("PodDisruptionBudget"):
        selector = budget["spec"]["selector"]["matchLabels"]
        assert [role for role in labels if matches(selector, labels[role])] == [
            budget["metadata"]["labels"]["app.kubernetes.io/component"]
        ]
    closed = manifests.named("NetworkPolicy", manifests.service)["spec"]
    assert all(matches(closed["podSelector"]["matchLabels"], each) for each in labels.values())
    assert closed["ingress"] == []
    opened = manifests.named("NetworkPolicy", f"{manifests.service}-gateway")["spec"]
    assert [role for role in labels if matches(opened["podSelector"]["matchLabels"], labels[role])] == ["gateway"]


def test_every_process_of_a_service_is_deployed(manifests):
    """Each role that the service has is a deployment, under that role's argument."""
    main = importlib.import_module(f"{manifests.service}_service.__main__").__spec__.origin
    source = Path(main).read_text(encoding="utf-8")
    roles = {"gateway", "worker"} | {role for role in ("subscriber", "scheduler") if f"{role}=" in source}

    assert manifests.pods.keys() == roles
    for role, pod in manifests.pods.items():
        assert pod["spec"]["containers"][0]["args"] == [role]
