"""Release one service alone: check it, build its wheels, and tag it `<service>/v<version>`.

    python tools/release.py metrics 1.2.3

The commit that is tagged changes the service's version and changelog and nothing else. Nothing is pushed or published:
`git push origin HEAD metrics/v1.2.3` does the one, the files in dist/metrics-1.2.3 are for the other. A step that fails
leaves the work tree as it was.
"""

import argparse
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from distributions import ROOT, closure, read_all
from standalone import UnknownServiceError, service_named

VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
UNRELEASED = "## Unreleased\n"


class RefusedError(Exception):
    """Why there is no release."""


def main() -> int:
    """Release the service that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("service", help="the name of a folder of services/")
    parser.add_argument("version", help="x.y.z")
    parser.add_argument("--checked", action="store_true", help="this commit has passed the checks: leave them out")
    options = parser.parse_args()
    try:
        release(options.service, options.version, checked=options.checked)
    except (RefusedError, UnknownServiceError) as error:
        sys.stderr.write(f"release: {error}\n")
        return 1
    return 0


def release(service: str, version: str, *, checked: bool) -> None:
    """Raises RefusedError; then nothing has changed."""
    folder = service_named(service).folder
    tag = f"{service}/v{version}"
    refuse_unless_next(service, version)
    if _said("status", "--porcelain"):
        raise RefusedError("the work tree has changes; commit them or put them away")
    files = [folder / "pyproject.toml", folder / "CHANGELOG.md"]
    written = [versioned(files[0].read_text("utf-8"), version), dated(files[1].read_text("utf-8"), version)]
    if not checked:
        _run("make", "check")
        _run(sys.executable, "-m", "pytest", "-q", "-m", "not chaos", str(folder / "tests"))
        _run(sys.executable, "tools/check_alone.py", service)
    try:
        for path, text in zip(files, written, strict=True):
            path.write_text(text, encoding="utf-8")
        wheels = build(service, ROOT / "dist" / f"{service}-{version}")
        _run("git", "commit", "--quiet", "--message", f"Release {service} {version}", "--", *map(str, files))
    except RefusedError:
        _run("git", "checkout", "--quiet", "HEAD", "--", *map(str, files))
        raise
    _run("git", "tag", "--annotate", "--message", f"{service} {version}", tag)
    sys.stdout.write(f"{tag}: {', '.join(wheels)}\n")


def refuse_unless_next(service: str, version: str) -> None:
    """Raises RefusedError for what is no version, or not above every one that the service has been released with."""
    if not VERSION.fullmatch(version):
        raise RefusedError(f"{version} is no version: expected x.y.z")
    tags = _said("tag", "--list", f"{service}/v*").split()
    released = sorted(_numbers(tag.rpartition("/v")[2]) for tag in tags if VERSION.fullmatch(tag.rpartition("/v")[2]))
    if released and _numbers(version) <= released[-1]:
        raise RefusedError(f"{service} {'.'.join(map(str, released[-1]))} is released; {version} is not above it")


def versioned(project: str, version: str) -> str:
    """A pyproject.toml with this version."""
    return re.sub(r'^version = "[^"]*"$', f'version = "{version}"', project, count=1, flags=re.MULTILINE)


def dated(changelog: str, version: str) -> str:
    """The changelog with what was unreleased under its version; raises RefusedError where there is nothing."""
    _, found, news = changelog.partition(UNRELEASED)
    if not found or not news.partition("\n## ")[0].strip():
        raise RefusedError("the changelog has nothing under Unreleased: say what is new for who uses the service")
    return changelog.replace(UNRELEASED, f"{UNRELEASED}\n## {version} - {datetime.now(UTC):%Y-%m-%d}\n", 1)


def build(service: str, target: Path) -> list[str]:
    """Wheels of the service and of what it needs of this repository."""
    for each in closure(service_named(service).name, read_all()):
        command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(target)]
        _run(*command, folder=each.folder)
    return sorted(path.name for path in target.glob("*.whl"))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _said(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def _run(*command: str, folder: Path = ROOT) -> None:
    if subprocess.run(command, cwd=folder, check=False).returncode:
        raise RefusedError(f"failed: {' '.join(command)}")


if __name__ == "__main__":
    raise SystemExit(main())
