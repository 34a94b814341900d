"""An environment that holds one service: its locked third-party packages, its own distributions, nothing else.

The third-party part comes from requirements.lock, hashes included; the local distributions are built
as wheels, so what a wheel leaves out is missed here first. Two steps, because the first changes rarely:

    python tools/standalone.py third-party metrics /venv
    python tools/standalone.py local metrics /venv
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from distributions import LOCK, ROOT, Distribution, closure, read_all, requirement_name, third_party

UV = Path(sys.executable).parent / "uv"


class UnknownServiceError(LookupError):
    """The named folder of services/ is no distribution."""


def main() -> int:
    """Do the step that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("third-party", "local"))
    parser.add_argument("service", help="the name of a folder of services/")
    parser.add_argument("environment", type=Path, help="where the environment lies; third-party makes it")
    options = parser.parse_args()
    try:
        needed = closure(service_named(options.service).name, read_all())
    except UnknownServiceError as error:
        parser.error(str(error))
    if options.step == "local":
        install_local(needed, options.environment)
    else:
        create_with_third_party(needed, options.environment)
    return 0


def service_named(name: str) -> Distribution:
    """The distribution in that folder of services/; raises UnknownServiceError."""
    folder = ROOT / "services" / name
    for each in read_all().values():
        if each.folder == folder:
            return each
    raise UnknownServiceError(f"services/{name} is no distribution")


def create_with_third_party(needed: list[Distribution], environment: Path) -> None:
    """Make the environment and install what these distributions require, transitively, as locked."""
    _uv("venv", "--python", sys.executable, str(environment))
    install_locked(third_party(needed, read_all()), environment)


def install_locked(requirements: list[str], environment: Path) -> None:
    """Install the requirements and what they require, at the versions and with the hashes of the lock."""
    with tempfile.TemporaryDirectory() as scratch:
        wanted, found, pinned = (Path(scratch, name) for name in ("wanted.txt", "found.txt", "pinned.txt"))
        wanted.write_text("\n".join(requirements), encoding="utf-8")
        options = ("--constraint", str(LOCK), "--no-annotate", "--no-header", "--python", str(_python(environment)))
        _uv("pip", "compile", str(wanted), "--output-file", str(found), *options)
        names = {requirement_name(line) for line in found.read_text(encoding="utf-8").splitlines()}
        pinned.write_text(pins(LOCK.read_text(encoding="utf-8"), names), encoding="utf-8")
        _uv("pip", "install", "--require-hashes", "--requirement", str(pinned), "--python", str(_python(environment)))


def pins(lock: str, names: Iterable[str]) -> str:
    """The entries of a lock for these names, with their hashes; raises LookupError when one is not locked."""
    wanted = set(names)
    entries = [entry for entry in re.split(r"\n(?=[^\s#])", f"\n{lock}") if entry.strip()]
    chosen = [entry for entry in entries if requirement_name(entry) in wanted]
    if missing := wanted - {requirement_name(entry) for entry in chosen}:
        raise LookupError(f"not in the lock: {', '.join(sorted(missing))}")
    return "\n".join(chosen)


def install_local(needed: list[Distribution], environment: Path) -> None:
    """Build these distributions and install the wheels, without asking a registry for anything."""
    with tempfile.TemporaryDirectory() as scratch:
        for each in needed:
            command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", scratch]
            subprocess.run(command, cwd=each.folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wheels = map(str, sorted(Path(scratch).glob("*.whl")))
        _uv("pip", "install", "--no-deps", "--python", str(_python(environment)), *wheels)


def _python(environment: Path) -> Path:
    return environment / "bin/python"


def _uv(*arguments: str) -> None:
    subprocess.run([str(UV), "--quiet", *arguments], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    raise SystemExit(main())
