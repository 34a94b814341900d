"""The distributions of this repository, read from their pyproject.toml files."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"


@dataclass(frozen=True)
class Distribution:
    """One folder that is installed by itself."""

    name: str
    folder: Path
    requirements: tuple[str, ...]

    @property
    def import_names(self) -> tuple[str, ...]:
        """The packages under src/; a distribution of generated code has none."""
        return tuple(sorted(path.parent.name for path in self.folder.glob("src/*/__init__.py")))


def read_all() -> dict[str, Distribution]:
    """Every distribution by its name."""
    projects = sorted([*ROOT.glob("*/pyproject.toml"), *ROOT.glob("services/*/pyproject.toml")])
    return {each.name: each for each in map(_read, projects)}


def closure(name: str, among: dict[str, Distribution]) -> list[Distribution]:
    """The named distribution and the local ones it requires, transitively."""
    wanted, frontier = {name}, [name]
    while frontier:
        local = {requirement_name(r) for r in among[frontier.pop()].requirements} & among.keys()
        frontier += local - wanted
        wanted |= local
    return [each for each in among.values() if each.name in wanted]


def third_party(distributions: list[Distribution], local: dict[str, Distribution]) -> list[str]:
    """What they require from a package registry, sorted, without repeats."""
    required = {r for each in distributions for r in each.requirements}
    return sorted(r for r in required if requirement_name(r) not in local)


def dev_groups() -> list[str]:
    """What tests, checks and benchmarks need beyond the distributions' own requirements."""
    workspace = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [requirement for group in workspace["dependency-groups"].values() for requirement in group]


def requirement_name(requirement: str) -> str:
    """The normalised distribution name at the head of a requirement (PEP 508, PEP 503)."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", requirement.strip(), maxsplit=1)[0]).lower()


def _read(pyproject: Path) -> Distribution:
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    return Distribution(project["name"], pyproject.parent, tuple(project.get("dependencies", ())))
