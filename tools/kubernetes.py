"""Render deploy/kubernetes/<service>/service.yaml from the one template and the service's values; or --check them."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import jinja2
import yaml

FOLDER = Path(__file__).resolve().parent.parent / "deploy/kubernetes"
PORTS = {"metrics": 50051, "notify": 50052, "reports": 50053}
HEALTH_PORT = 8086
TLS = {"CERT": "tls.crt", "KEY": "tls.key", "CA": "ca.crt"}


def main() -> int:
    """Write what is stale; with --check say so instead."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail where a file is not what would be written")
    checks = parser.parse_args().check
    stale = [(path, text) for path, text in rendered() if not path.is_file() or path.read_text("utf-8") != text]
    said = "stale: make kubernetes" if checks else "written"
    for path, text in stale:
        sys.stdout.write(f"{path.relative_to(FOLDER.parents[1])}: {said}\n")
        if not checks:
            path.write_text(text, encoding="utf-8")
    return int(checks and bool(stale))


def rendered() -> Iterator[tuple[Path, str]]:
    """Each service's file with what belongs into it."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)  # noqa: S701 (no HTML)
    template = environment.from_string((FOLDER / "service.yaml.j2").read_text("utf-8"))
    for path in sorted(FOLDER.glob("*/values.yaml")):
        yield path.with_name("service.yaml"), template.render(values_of(path.parent.name, path))


def values_of(service: str, path: Path) -> dict[str, object]:
    """What the template is rendered with; raises KeyError for a service without a port."""
    own = yaml.safe_load(path.read_text("utf-8"))
    return {
        "claim": "",
        "outside": [],
        **own,
        "service": service,
        "image": f"localhost/waybill-{service}",
        "port": PORTS[service],
        "health_port": HEALTH_PORT,
        "settings": {**_settings(service), **own.get("settings", {})},
    }


def _settings(service: str) -> dict[str, str]:
    routes = [f"{name}={name}-gateway:{port}" for name, port in PORTS.items()]
    return {
        f"{service.upper()}_LISTEN": f"0.0.0.0:{PORTS[service]}",
        f"{service.upper()}_HEALTH_LISTEN": f"0.0.0.0:{HEALTH_PORT}",
        "WAYBILL_ROUTES": ",".join([*routes, "opentelemetry.proto.collector.metrics.v1=metrics"]),
        # Shorter than terminationGracePeriodSeconds less the preStop pause.
        "WAYBILL_GRACE_SECONDS": "30",
        **{f"WAYBILL_TLS_{name}_FILE": f"/etc/waybill/tls/{file}" for name, file in TLS.items()},
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel-collector:4317",
    }


if __name__ == "__main__":
    raise SystemExit(main())
