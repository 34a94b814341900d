"""`make new-service`: what it refuses, and that what it makes is a service like the others."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
SERVICE, TASK = "orders", "place_order"


def tool(*arguments, root=ROOT):
    """Run the generator of that tree."""
    command = [sys.executable, str(root / "tools" / "new_service.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("service", "task", "refusal"),
    [
        ("", TASK, "NAME is not set: make new-service NAME=orders"),
        ("Orders", TASK, "NAME=Orders: expected lower-case letters and digits"),
        ("order-items", TASK, "NAME=order-items: expected lower-case letters and digits"),
        ("order_items", TASK, "NAME=order_items: expected lower-case letters and digits"),
        ("2fast", TASK, "NAME=2fast: expected lower-case letters and digits"),
        ("../orders", TASK, "NAME=../orders: expected lower-case letters and digits"),
        ("o", TASK, "NAME=o: expected 2 to 20 characters, it has 1"),
        ("o" * 21, TASK, "expected 2 to 20 characters, it has 21"),
        ("import", TASK, "NAME=import: a keyword of Python"),
        ("reports", TASK, "NAME=reports: taken"),
        ("dashboard", TASK, "NAME=dashboard: taken"),
        ("admin", TASK, "NAME=admin: taken"),
        ("sample", TASK, "NAME=sample: reserved, it is a service of the tests"),
        ("otel", TASK, "NAME=otel: reserved, it is the prefix of somebody else's environment variables"),
        ("process", TASK, "NAME=process: reserved, it is a part of docker-compose.yml"),
        (SERVICE, "place", "TASK=place: expected a verb and a noun in lower case"),
        (SERVICE, "PlaceOrder", "TASK=PlaceOrder: expected a verb and a noun in lower case"),
        (SERVICE, "place_" + "x" * 25, "TASK=place_xxxxxxxxxxxxxxxxxxxxxxxxx: expected at most 30 characters"),
    ],
)
def test_a_name_that_would_not_do_is_refused_and_said_why(service, task, refusal):
    """Before anything is written."""
    refused = tool(service, task)

    assert refused.returncode == 2
    assert refused.stderr.startswith("new-service: ")
    assert refusal in refused.stderr
    assert not (ROOT / "services" / SERVICE).exists()


def test_both_names_are_judged_at_once():
    """One run tells all that is wrong."""
    refused = tool("class", "x")

    assert len(refused.stderr.splitlines()) == 2


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the tree, as a checkout has it, with a service made into it."""
    copy = tmp_path_factory.mktemp("tree")
    for name in tracked(ROOT):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    subprocess.run(["git", "init", "--quiet"], cwd=copy, check=True)
    made = tool(SERVICE, TASK, root=copy)
    assert made.returncode == 0, made.stderr
    return copy


def tracked(root):
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (root / name).is_file()]


def run(tree, *command, first=()):
    """A program in the copy, whose packages stand before the installed ones."""
    sources = [*first, *tree.glob("*/src"), *tree.glob("services/*/src"), tree / "proto" / "gen"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sources))}
    environment["WAYBILL_STATE_DIR"] = str(tree.parent / "state")
    # The number of this process of pytest-xdist stays: its share of the ports is this run's.
    environment.pop("PYTEST_ADDOPTS", None)
    ran = subprocess.run([*map(str, command)], cwd=tree, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "command",
    [
        (BIN / "ruff", "format", "--check"),
        (BIN / "ruff", "check"),
        (sys.executable, "tools/check_house.py"),
        (sys.executable, "proto/generate.py", "--check"),
        (sys.executable, "proto/check.py"),
        (BIN / "lint-imports", "--no-cache"),
        (BIN / "mypy", f"services/{SERVICE}/src"),
    ],
    ids=["format", "lint", "house", "generated", "contract", "imports", "types"],
)
def test_the_tree_passes_every_check_as_it_is(tree, command):
    """What `make check` runs; of the types, those of the new service."""
    run(tree, *command)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_new_service_passes_its_own_tests(tree):
    """Gateway and worker among them, against a real Valkey."""
    told = run(tree, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"services/{SERVICE}")

    assert "11 passed" in told or "9 passed, 2 skipped" in told


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_list_of_services_has_the_new_one(tree):
    """docker-compose.yml, its documentation, the tasks on record, the users of the store."""
    folder = "tests/contract"
    suites = (f"{folder}/test_compose_matches_settings.py", f"{folder}/test_tasks_and_queues.py")
    run(tree, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *suites)

    assert set(json.loads((tree / folder / "tasks_and_queues.json").read_text())[SERVICE]["tasks"]) == {
        f"{SERVICE}.{TASK}"
    }
    users = (tree / "deploy/redis/users.acl").read_text()
    assert f"user {SERVICE} on resetpass resetkeys ~wb:{{{SERVICE}}}:* " in users
    assert f"user {SERVICE}-publisher on " in users


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_its_wheel_stands_alone_and_is_found_by_the_command(tree, tmp_path):
    """What the wheel holds passes `--check`, and is what `waybill up` starts, on a port of its own."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=tree / "services" / SERVICE, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    shown = "from waybill_cli import installed; print(installed.services(), installed.listeners())"

    checked = run(tree, sys.executable, "-m", f"{SERVICE}_service", "--check", first=[tmp_path / "installed"])
    found = run(tree, sys.executable, "-c", shown, first=[tmp_path / "installed"])

    assert "1 tasks in 1 queues: all is well" in checked
    assert (tmp_path / "installed" / f"{SERVICE}_service" / "revisions" / "0001_records.py").exists()
    assert "'orders': ()" in found
    assert "Listener(variable='ORDERS_LISTEN', default='127.0.0.1:50055', offset=5)" in found


@pytest.mark.slow
def test_nothing_is_overwritten(tree):
    """A second run leaves the first one's service, and what has been made of it, alone."""
    mine = tree / "services" / SERVICE / "src" / "orders_service" / "processing.py"
    before = mine.read_bytes() + (tree / "docker-compose.yml").read_bytes()

    refused = tool(SERVICE, TASK, root=tree)

    assert "NAME=orders: taken" in refused.stderr
    assert mine.read_bytes() + (tree / "docker-compose.yml").read_bytes() == before


@pytest.mark.slow
def test_nothing_is_written_where_a_list_cannot_be_found(tree):
    """A file that has been rewritten by hand is named, and the tree stays as it was."""
    compose = tree / "docker-compose.yml"
    before = compose.read_text()
    compose.write_text(before.replace("x-after-stores:", "x-after-the-stores:"))

    refused = tool("billing", "send_bill", root=tree)

    compose.write_text(before)
    assert refused.returncode == 2
    assert "docker-compose.yml: no 'x-after-stores:'" in refused.stderr
    assert not (tree / "services" / "billing").exists()
    assert "billing" not in (tree / ".importlinter").read_text()
