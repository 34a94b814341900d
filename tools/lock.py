"""Compile requirements.lock from what every distribution and the dev groups require.

Only third-party requirements enter it. No address of a registry, path or find-links line may
stand in it: the result is refused if one does.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from distributions import LOCK, dev_groups, read_all, third_party

HEADER = """\
# Third-party packages of every distribution and of the dev groups, for Python 3.11 and newer.
# Written by `make lock`; never edited.
"""


def main() -> int:
    """Write the lock. Pinned versions stay, unless --upgrade is given."""
    local = read_all()
    wanted = sorted({*third_party(list(local.values()), local), *dev_groups()})
    pins = "" if "--upgrade" in sys.argv[1:] or not LOCK.exists() else LOCK.read_text(encoding="utf-8")
    locked = _compile(wanted, pins)
    if leak := re.search(r"://|^--|^/|find-links", locked, re.MULTILINE):
        sys.stderr.write(f"refused: the compiled lock names an address or a path: {locked[leak.start() :][:80]}\n")
        return 1
    LOCK.write_text(HEADER + locked, encoding="utf-8")
    return 0


def _compile(requirements: list[str], pins: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "locked.txt")  # uv keeps the versions that its output file already pins
        output.write_text(pins, encoding="utf-8")
        uv = shutil.which("uv", path=f"{sys.prefix}/bin") or "uv"
        command = [uv, "pip", "compile", "-", "--output-file", str(output), "--quiet", "--universal"]
        command += ["--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate"]
        command += ["--no-emit-index-url", "--no-emit-find-links"]
        subprocess.run(command, input="\n".join(requirements), text=True, check=True, stdout=subprocess.DEVNULL)
        return output.read_text(encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
