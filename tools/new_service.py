"""Make a service that works: contract, package, gateway, worker, tests, and its entry in every list.

    make new-service NAME=orders TASK=place_order

Nothing is overwritten, and nothing is written unless all of it can be.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from registrations import PLACES, PlaceNotFoundError
from service_names import Names, problems

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = Path(__file__).resolve().parent / "service_template"
# Above the ports of the services and of the dashboard's trace receiver.
FIRST_PORT = 50_055

DONE = """\
new-service: services/{service} is there, with its contract, a gateway on port {port}, a worker and tests.

  made     proto/waybill/{service}/v1/{service}.proto   the contract
           services/{service}/                      the service; README.md says which file does what
  changed  {changed}
  written by `make proto`: proto/gen/waybill/{service}

Next:
  make check test                               all of it passes as it is
  make up                                       starts it with the others
  .venv/bin/waybill submit {service} {method} '{{"text": "to be or not to be"}}' --wait
  docs/adding-a-service.md                      makes it yours, step by step
"""


def main() -> int:
    """Make the service that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("service", help="its name: lower case, one word")
    parser.add_argument("task", nargs="?", default="process_item", help="its first task: verb_noun")
    options = parser.parse_args()
    if wrong := list(problems(options.service, options.task, taken(ROOT))):
        return _refuse(wrong)
    names = Names(options.service, options.task, free_port(ROOT))
    try:
        changed = registered(ROOT, names)
    except PlaceNotFoundError as error:
        return _refuse([str(error)])
    write(ROOT, {**made(names), **changed})
    finish(ROOT, names)
    method = names.replacements["process-item"]
    sys.stdout.write(
        DONE.format(service=names.service, port=names.port, method=method, changed="\n           ".join(changed))
    )
    return 0


def taken(root: Path) -> set[str]:
    """Names that are folders of services or of contracts."""
    folders = [*root.glob("services/*"), *root.glob("proto/waybill/*"), *root.glob("proto/gen/waybill/*")]
    return {path.name for path in folders}


def free_port(root: Path) -> int:
    """The next that no service listens on by default."""
    settings = root.glob("services/*/src/*/settings.py")
    used = {int(port) for path in settings for port in re.findall(r"127\.0\.0\.1:(\d+)", path.read_text("utf-8"))}
    return next(port for port in range(FIRST_PORT, 65_536) if port not in used)


def made(names: Names) -> dict[str, str]:
    """The files of the service, by their paths."""
    contract = f"proto/waybill/{names.service}/v1/{names.service}.proto"
    service = {
        f"services/{names.service}/{names.filled_in(path.relative_to(TEMPLATES / 'service').as_posix())}": path
        for path in _files(TEMPLATES / "service")
    }
    templates = {contract: TEMPLATES / "seedling.proto", **service}
    return {name: names.filled_in(path.read_text("utf-8")) for name, path in templates.items()}


def registered(root: Path, names: Names) -> dict[str, str]:
    """The files that list services, with this one in them; raises PlaceNotFoundError."""
    templates = {path.name: names.filled_in(path.read_text("utf-8")) for path in _files(TEMPLATES / "registered")}
    return {name: _entered(root, name, names, templates) for name in PLACES}


def write(root: Path, files: Mapping[str, str]) -> None:
    """Write them all."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def finish(root: Path, names: Names) -> None:
    """Generate the code of the contract; sort imports and break lines as the names' lengths want it."""
    folder = str(root / "services" / names.service)
    ruff = [sys.executable, "-m", "ruff"]
    for command in (
        [sys.executable, str(root / "proto" / "generate.py")],
        [*ruff, "check", "--quiet", "--fix-only", folder],
        [*ruff, "format", "--quiet", folder],
    ):
        subprocess.run(command, cwd=root, check=True)


def _entered(root: Path, name: str, names: Names, templates: Mapping[str, str]) -> str:
    try:
        return PLACES[name]((root / name).read_text("utf-8"), names, templates)
    except PlaceNotFoundError as error:
        raise PlaceNotFoundError(f"{name}: {error}; enter the service by hand or mend tools/registrations.py") from None


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)


def _refuse(reasons: list[str]) -> int:
    sys.stderr.writelines(f"new-service: {reason}\n" for reason in reasons)
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
