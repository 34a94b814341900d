"""Processes of an older release of this repository, beside those of the work tree, over one store and one database.

The older code comes out of git's history and runs in this environment: its packages come first on the path.
"""

import io
import os
import subprocess
import tarfile
from pathlib import Path

from conftest import OLDER

ROOT = Path(__file__).parent.parent
SOURCES = ("shared/src", "proto", "services/metrics/src", "services/notify/src", "services/reports/src")
PACKAGES = ("shared/src", "proto/gen", "services/metrics/src", "services/notify/src", "services/reports/src")


def reference(environment=os.environ):
    """The commit of the older release: WAYBILL_TEST_SKEW_REF, else the last release of a service, else `OLDER`."""
    return environment.get("WAYBILL_TEST_SKEW_REF") or last_release() or OLDER


def last_release():
    """The newest tag of any service, `metrics/v1.2.3`; empty without one."""
    return _git("describe", "--tags", "--abbrev=0", "--match", "*/v[0-9]*", "HEAD^").stdout.decode().strip()


def laid_out(folder, ref):
    """The sources of that release below the folder, and the environment in which processes run them."""
    archive = subprocess.run(["git", "archive", ref, *SOURCES], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return {"PYTHONPATH": os.pathsep.join(str(folder / package) for package in PACKAGES)}


def _git(*arguments):
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)
