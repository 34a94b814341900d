"""A service is released alone: its version, changelog, wheels and tag; contracts are held to what was tagged."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
AUTHOR = {
    f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in (("NAME", "a"), ("EMAIL", "a@b.c"))
}
FIELD = "  // Empty: the gateway's own service.\n  string service = 1;\n"

pytestmark = [pytest.mark.needs("history"), pytest.mark.slow]


class Clone:
    """A clone of this repository, with what is not committed yet, whose commands run in this environment."""

    def __init__(self, folder):
        self.folder = folder
        self.git("clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder), cwd=folder.parent)
        for tag in self.git("tag", "--list", "*/v*").splitlines():
            self.git("tag", "--delete", tag)
        changed = subprocess.run(["git", "diff", "--binary", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
        if changed:
            subprocess.run(["git", "apply"], input=changed, cwd=folder, check=True)
            self.git("add", "--all")
            self.git("commit", "--quiet", "--message", "what the work tree has")

    def git(self, *arguments, cwd=None):
        return self.run("git", *arguments, cwd=cwd).stdout.strip()

    def release(self, *arguments, check=True):
        return self.run(sys.executable, "tools/release.py", *arguments, "--checked", check=check)

    def run(self, *command, cwd=None, check=True):
        done = subprocess.run(
            command,
            cwd=cwd or self.folder,
            env={**os.environ, **AUTHOR},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done

    def read(self, path):
        return (self.folder / path).read_text(encoding="utf-8")

    def write(self, path, text):
        (self.folder / path).write_text(text, encoding="utf-8")


@pytest.fixture
def clone(tmp_path):
    return Clone(tmp_path / "clone")


def test_a_release_is_of_one_service_alone(clone):
    """Its pyproject and changelog change, its wheels are built with what they need, its tag is set; no other's."""
    clone.release("metrics", "1.2.3")

    changed = clone.git("show", "--name-only", "--format=", "metrics/v1.2.3^{commit}").splitlines()
    assert changed == ["services/metrics/CHANGELOG.md", "services/metrics/pyproject.toml"]
    assert 'version = "1.2.3"' in clone.read("services/metrics/pyproject.toml")
    assert "## Unreleased\n\n## 1.2.3 - 20" in clone.read("services/metrics/CHANGELOG.md")
    assert 'version = "1.2.3"' not in clone.read("services/notify/pyproject.toml")
    wheels = sorted(path.name.split("-")[0] for path in (clone.folder / "dist/metrics-1.2.3").iterdir())
    assert wheels == ["waybill_chassis", "waybill_metrics", "waybill_proto"]
    assert clone.git("tag", "--list", "*/v*").splitlines() == ["metrics/v1.2.3"]
    assert clone.git("status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("metrics", "1.2"), "is no version"),
        (("nobody", "1.2.3"), "services/nobody is no distribution"),
        (("metrics", "1.0.0"), "is not above it"),
        (("metrics", "2.0.0"), "nothing under Unreleased"),
    ],
)
def test_what_is_no_next_release_is_refused_and_changes_nothing(clone, arguments, why):
    """No version, no such service, an older version, or no word of what is new."""
    clone.release("metrics", "1.2.3")
    before = clone.git("rev-parse", "HEAD"), clone.git("tag", "--list", "*/v*")

    refused = clone.release(*arguments, check=False)

    assert refused.returncode == 1
    assert why in refused.stderr
    assert (clone.git("rev-parse", "HEAD"), clone.git("tag", "--list", "*/v*")) == before
    assert clone.git("status", "--porcelain") == ""


def test_a_work_tree_with_changes_is_not_released(clone):
    """What is tagged is what was committed and checked."""
    clone.write("README.md", "changed")

    refused = clone.release("notify", "1.0.0", check=False)

    assert "the work tree has changes" in refused.stderr


def test_contracts_may_grow_and_not_break_against_the_last_release(clone):
    """A new field passes; a removed one is named by `buf breaking`."""
    admin = "proto/waybill/admin/v1/admin.proto"
    contract = clone.read(admin)
    clone.release("reports", "1.0.0")

    clone.write(admin, contract.replace(FIELD, f"{FIELD}  // A new one.\n  string more = 99;\n", 1))
    grown = clone.run(sys.executable, "proto/check.py", check=False)
    clone.write(admin, contract.replace(FIELD, "", 1))
    broken = clone.run(sys.executable, "proto/check.py", check=False)

    assert grown.returncode == 0, grown.stdout + grown.stderr
    assert broken.returncode != 0
    assert 'Previously present field "1" with name "service"' in broken.stdout + broken.stderr
