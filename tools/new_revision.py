"""Write the next revision of a lineage: what its tables have that its revisions do not build yet.

    make migration SERVICE=orders MESSAGE="note when an order was packed"

SERVICE names a service, or archive or outbox, which the databases of services share. The file is a proposal: read it.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import sqlalchemy as sa
from alembic.autogenerate import render_python_code
from chassis.database import open_database
from chassis.lineages import Lineage, databases, lineages_of
from chassis.migrations import differences

ROOT = Path(__file__).resolve().parent.parent
_COMMENT = re.compile(r"^ *###.*\n?|^ *# ###.*\n?", re.MULTILINE)

TEMPLATE = '''\
"""{message}."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = {before}


def upgrade() -> None:
    {body}
'''


def main() -> int:
    """Write the revision that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a service, or archive or outbox")
    parser.add_argument("message", help="what it does, in a few words")
    options = parser.parse_args()
    known = databases()
    message = options.message.strip().rstrip(".")
    if options.name not in known:
        return _refuse(f"{options.name!r} is not one of {', '.join(known)}")
    if not re.search(r"\w", message):
        return _refuse("say what the revision does: MESSAGE=...")
    metadata = known[options.name]
    lineage = next(each for each in lineages_of(metadata) if each.name == options.name)
    body = proposed(metadata)
    if body is None:
        return _refuse(f"the tables of {options.name} are those that its revisions build")
    path = write(lineage, message, body)
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", str(path)], check=True)
    sys.stdout.write(f"migration: wrote {path.relative_to(ROOT)}; read it\n")
    return 0


def proposed(metadata: sa.MetaData) -> str | None:
    """The body of an `upgrade`; None when nothing is missing."""
    with tempfile.TemporaryDirectory() as folder:
        engine = open_database(f"sqlite:///{folder}/scratch.db", metadata)
        with engine.connect() as connection:
            script = differences(connection, metadata)
        engine.dispose()
    if script.upgrade_ops is None or script.upgrade_ops.is_empty():
        return None
    return _COMMENT.sub("", render_python_code(script.upgrade_ops)).strip()


def write(lineage: Lineage, message: str, body: str) -> Path:
    """The file of the lineage's next revision."""
    known = lineage.revisions
    revision = f"{len(known) + 1:04}"
    slug = "_".join(re.findall(r"[a-z0-9]+", message.lower()))[:60].rstrip("_")
    path = lineage.folder / f"{revision}_{slug}.py"
    before = f'"{known[-1]}"' if known else "None"
    sentence = message[0].upper() + message[1:]
    path.write_text(TEMPLATE.format(message=sentence, revision=revision, before=before, body=body), encoding="utf-8")
    return path


def _refuse(reason: str) -> int:
    sys.stderr.write(f"migration: {reason}\n")
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
