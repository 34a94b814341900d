"""Install one service with its own dependencies and nothing else, and start its check there."""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from distributions import Distribution, closure, read_all
from standalone import UnknownServiceError, create_with_third_party, install_local, service_named

PROBE = "import importlib.util, sys; sys.exit(any(map(importlib.util.find_spec, sys.argv[1:])))"


def main() -> int:
    """Check the service that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("service", help="the name of a folder of services/")
    try:
        service = service_named(parser.parse_args().service)
    except UnknownServiceError as error:
        parser.error(str(error))

    local = read_all()
    needed = closure(service.name, local)
    others = {name for each in local.values() if each not in needed for name in each.import_names}
    with tempfile.TemporaryDirectory() as scratch:
        return _check(service, needed, sorted(others), Path(scratch))


def _check(service: Distribution, needed: list[Distribution], others: list[str], scratch: Path) -> int:
    environment = scratch / "venv"
    create_with_third_party(needed, environment)
    install_local(needed, environment)
    python = str(environment / "bin/python")
    if _run([python, "-c", PROBE, *others], scratch):
        return _fail(service, f"another service can be imported: one of {', '.join(others)}")
    for name in service.import_names:
        if _run([python, "-m", name, "--check"], scratch):
            return _fail(service, f"python -m {name} --check failed with its own dependencies alone")
    sys.stdout.write(f"{service.name}: stands alone\n")
    return 0


def _run(command: list[str], scratch: Path) -> int:
    state = {"WAYBILL_STATE_DIR": str(scratch / "state"), "PYTHONPATH": "", "PYTHONSAFEPATH": "1"}
    return subprocess.run(command, cwd=scratch, env={**os.environ, **state}, check=False).returncode


def _fail(service: Distribution, reason: str) -> int:
    sys.stderr.write(f"{service.name}: {reason}\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
