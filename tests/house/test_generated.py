"""Generated code and the requirements that it sets."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

PROTO = Path(__file__).resolve().parents[2] / "proto"


def generated_for(pattern):
    text = "".join(path.read_text() for path in (PROTO / "gen").rglob("*_pb2*.py"))
    return {Version(found) for found in re.findall(pattern, text)}


def test_the_lower_bounds_are_the_versions_that_the_code_was_generated_for():
    """Generated modules refuse an older runtime at import, so the bounds must say so."""
    project = tomllib.loads((PROTO / "pyproject.toml").read_text())["project"]
    bounds = {r.name: r.specifier for r in map(Requirement, project["dependencies"])}

    protobuf = generated_for(r"# Protobuf Python Version: (\S+)")
    grpcio = generated_for(r"GRPC_GENERATED_VERSION = '(\S+)'")

    assert {str(bounds["protobuf"])} == {f">={version}" for version in protobuf}
    assert {str(bounds["grpcio"])} == {f">={version}" for version in grpcio}
