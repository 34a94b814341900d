"""Refuse what the house does not take, in the files that git tracks or would track.

File names that say nothing about what may enter them, Python files over 400 lines, tests that
wait for time, addresses of package registries, paths of the machine, and requirements that the
lock does not hold.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from distributions import LOCK, ROOT, dev_groups, read_all, requirement_name, third_party

VAGUE = {"utils.py", "util.py", "common.py", "helpers.py", "base.py", "misc.py"}
MAX_LINES = 400
SLEEP = re.compile(r"\btime\.sleep\(|\basyncio\.sleep\([1-9]")
REGISTRY = re.compile(r"""(registry|resolved|url|index|index-url)"?[ :=]+"?https?://[^" ]*/(simple|packages|-/)""")
# A checkout right below / (a container's) has too common a path to tell anything.
MACHINE = [f"{place}/" for place in (ROOT, Path.home() / ".cache") if place.parent != Path("/")]
PYPI = re.compile(r"https?://[\w.-]*(pypi|pythonhosted)\.[\w]+/(simple|packages)")


def main() -> int:
    """Print every finding; fail when there is one."""
    findings = sorted({*_unlocked(), *(f for name in _files() for f in _inspect(name))})
    sys.stderr.writelines(f"{finding}\n" for finding in findings)
    return 1 if findings else 0


def _files() -> list[str]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def _inspect(name: str) -> Iterator[str]:
    path = PurePosixPath(name)
    try:
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return
    yield from _leaks(name, lines)
    if path.suffix == ".py" and not path.is_relative_to("proto/gen"):
        yield from _python(path, lines)


def _python(path: PurePosixPath, lines: list[str]) -> Iterator[str]:
    if path.name in VAGUE:
        yield f"{path}: the name says nothing about what may enter it"
    if len(lines) > MAX_LINES:
        yield f"{path}: {len(lines)} lines, more than {MAX_LINES}"
    if path.name.startswith("test_"):
        for number, line in enumerate(lines, start=1):
            if SLEEP.search(line):
                yield f"{path}:{number}: waits for time instead of a signal"


def _leaks(name: str, lines: list[str]) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if any(path in line for path in MACHINE):
            yield f"{name}:{number}: a path of this machine"
        if REGISTRY.search(line) or PYPI.search(line):
            yield f"{name}:{number}: the address of a package registry"


def _unlocked() -> Iterator[str]:
    local = read_all()
    locked = {requirement_name(line) for line in LOCK.read_text(encoding="utf-8").splitlines() if "==" in line}
    for requirement in {*third_party(list(local.values()), local), *dev_groups()}:
        if requirement_name(requirement) not in locked:
            yield f"requirements.lock: {requirement} is not in it (run `make lock`)"


if __name__ == "__main__":
    raise SystemExit(main())
