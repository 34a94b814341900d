"""What tools/check_house.py refuses."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def house(tmp_path):
    """A small repository with the tools, the workspace and the lock of this one."""
    for name in ("tools", "pyproject.toml", "requirements.lock"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("__pycache__/\n")
    return tmp_path


def check(house):
    command = [sys.executable, str(house / "tools" / "check_house.py")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_clean_house_passes(house):
    """Nothing is found where nothing is wrong."""
    checked = check(house)

    assert (checked.returncode, checked.stderr) == (0, "")


REGISTRY = "https://" + "files.pythonhosted.org" + "/packages/x.whl"


@pytest.mark.parametrize(
    ("name", "text", "finding"),
    [
        ("src/utils.py", "", "src/utils.py: the name says nothing"),
        ("src/long.py", "x = 1\n" * 401, "src/long.py: 401 lines"),
        ("src/test_slow.py", "import time\n\ntime." + "sleep(1)\n", "src/test_slow.py:3: waits for time"),
        ("some.lock", f"x @ {REGISTRY}\n", "some.lock:1: the address of a package registry"),
    ],
)
def test_what_the_house_does_not_take_is_named(house, name, text, finding):
    """A finding names the file and the reason."""
    (house / name).parent.mkdir(exist_ok=True)
    (house / name).write_text(text)

    checked = check(house)

    assert checked.returncode == 1
    assert checked.stderr.startswith(finding)


def test_a_path_of_the_machine_is_refused(house):
    """The checkout's own path may stand in no file."""
    (house / "notes.md").write_text(f"see {house}/src\n")

    checked = check(house)

    assert "notes.md:1: a path of this machine" in checked.stderr


def test_a_requirement_that_the_lock_lacks_is_named(house):
    """A dependency enters a pyproject.toml and the lock together."""
    service = house / "services" / "parcels"
    service.mkdir(parents=True)
    (service / "pyproject.toml").write_text('[project]\nname = "p"\ndependencies = ["no-such-thing>=1"]\n')

    checked = check(house)

    assert "requirements.lock: no-such-thing>=1 is not in it" in checked.stderr
