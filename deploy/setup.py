"""What docker-compose.yml needs before it is closed: authority, certificates, tokens, passwords, users of the stores.

    setup.py make                       whatever of it is missing or ends soon (the container `setup`, at each start)
    setup.py stores                     each service's role and database in PostgreSQL, and its user in Valkey
                                        (the container `stores`)
    setup.py authority                  prints the authority's certificate, which clients trust
    setup.py token NAME --role ROLE     prints a new token, this once; --days N for one that ends
    setup.py tokens                     prints who has which
    setup.py revoke NAME                takes the tokens of NAME away, within a second

/authority is seen by this program alone; /credentials/<service> is what a service has at /run/waybill:

    ca.crt, tls.crt, tls.key    for its listeners and its calls
    token                       what it shows to others
    tokens.json                 hashes of everybody's tokens, with their roles
    pgpass                      its password at PostgreSQL, in libpq's form
    valkey-password             its password at Valkey

/credentials/postgres and /credentials/valkey hold the superusers' passwords; the latter also has users.acl, what each
service may do in Valkey (deploy/redis/users.acl) with a hash of its password. Nothing that is there is replaced while
it is good, so that running it again changes nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeAlias

import psycopg
import redis
from chassis import credentials
from chassis.credentials import Document
from chassis.roles import Role
from psycopg import sql

AUTHORITY: Final = Path("/authority")
CREDENTIALS: Final = Path("/credentials")
POSTGRES: Final = "postgres"
VALKEY: Final = "valkey"
STORES: Final = frozenset({POSTGRES, VALKEY})
RULES: Final = Path(__file__).parent / "redis" / "users.acl"
# The container's health is asked for by the one, a person at the server is the other.
PROBE: Final = "user probe on nopass -@all +ping"
ADMIN: Final = "user admin on ~* &* +@all"
# Of the images: what the services run as, and so what their files belong to.
USER: Final = 10001

AUTHORITY_DAYS: Final = 3650
# Public authorities give no longer, and some clients take no longer. Renewed at a start within the last month.
CERTIFICATE_DAYS: Final = 397
RENEWED_SECONDS: Final = 30 * 86_400
# By which a listener is reached: its containers' names, and this machine's.
LISTENERS: Final = ("gateway", "web")
NEW_KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
LOOPBACK: Final = ("DNS:localhost", "IP:127.0.0.1", "IP:::1")


Server: TypeAlias = psycopg.Connection[tuple[object, ...]]


def main(arguments: list[str] | None = None) -> int:
    """Do one of the above."""
    options = parser().parse_args(arguments)
    become_owner(AUTHORITY, *CREDENTIALS.iterdir())
    os.umask(0o077)
    try:
        options.run(options)
    except (subprocess.CalledProcessError, psycopg.Error, redis.RedisError, OSError, ValueError) as error:
        said = error.stderr if isinstance(error, subprocess.CalledProcessError) else ""
        print(f"setup: {error}\n{said}".rstrip(), file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """A subcommand for each line of the above."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = found.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    command("make", lambda _: make(), "make what is missing or ends soon")
    command("stores", lambda _: make_stores(), "make roles and databases in PostgreSQL, users in Valkey")
    command("authority", lambda _: print((AUTHORITY / "ca.crt").read_text(), end=""), "print the authority")
    token = command("token", lambda given: new_token(given.name, given.role, given.days), "print a new token")
    token.add_argument("name")
    token.add_argument("--role", action="append", required=True, choices=[role.value for role in Role])
    token.add_argument("--days", type=int, help="until it ends; default: never")
    command("tokens", lambda _: list_tokens(), "print who has which")
    command("revoke", lambda given: revoke(given.name), "take tokens away").add_argument("name")
    return found


def become_owner(*folders: Path) -> None:
    """A new volume is root's; what is made in it from here on is the services'."""
    if os.getuid() != 0:
        return
    for folder in folders:
        os.chown(folder, USER, USER)
    os.setgroups([])
    os.setgid(USER)
    os.setuid(USER)


def make() -> None:
    """Authority, certificates, tokens and passwords."""
    if not (AUTHORITY / "ca.key").exists():
        make_authority()
    document = credentials.read(AUTHORITY / "tokens.json")
    for service in services():
        folder = CREDENTIALS / service
        make_certificate(folder, names_of(service))
        document = with_own_token(document, folder, service)
        write_once(folder / "pgpass", f"{POSTGRES}:5432:{service}:{service}:{new_password()}\n")
        write_once(folder / "valkey-password", new_password())
    for store in STORES:
        write_once(CREDENTIALS / store / "password", new_password())
    publish(document)
    write(CREDENTIALS / VALKEY / "users.acl", users(), mode=0o644)
    print(f"setup: ready for {', '.join(services())}")


def services() -> list[str]:
    """Whose volumes are mounted."""
    return sorted({folder.name for folder in CREDENTIALS.iterdir()} - STORES)


def names_of(service: str) -> list[str]:
    """Under which its listeners are reached. SETUP_NAMES adds some to all: `DNS:waybill.example.com IP:192.0.2.7`."""
    containers = [f"DNS:{service}-{process}" for process in LISTENERS]
    return [*containers, *LOOPBACK, *os.environ.get("SETUP_NAMES", "").split()]


def make_authority() -> None:
    """The key is moved into place last: with it everything is there."""
    key = AUTHORITY / "ca.key.new"
    openssl("req", "-x509", *NEW_KEY, "-keyout", key, "-days", AUTHORITY_DAYS, "-subj", "/CN=Waybill authority",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-out", AUTHORITY / "ca.crt")  # fmt: skip
    key.rename(AUTHORITY / "ca.key")


def make_certificate(folder: Path, names: list[str]) -> None:
    """A new one where there is none, or one of another authority, for other names, or that ends soon."""
    authority = (AUTHORITY / "ca.crt").read_bytes()
    ca, certificate, recorded = (folder / name for name in ("ca.crt", "tls.crt", "names"))
    wanted = "\n".join(names) + "\n"
    if all(each.exists() for each in (ca, certificate, recorded)) and ca.read_bytes() == authority:
        lasts = openssl("x509", "-checkend", RENEWED_SECONDS, "-noout", "-in", certificate, check=False) == 0
        if lasts and recorded.read_text() == wanted:
            return
    with tempfile.TemporaryDirectory() as scratch:
        request, extensions = Path(scratch, "request"), Path(scratch, "extensions")
        extensions.write_text(f"subjectAltName={','.join(names)}\nextendedKeyUsage=serverAuth,clientAuth\n")
        openssl("req", *NEW_KEY, "-keyout", folder / "tls.key", "-subj", f"/CN={folder.name}", "-out", request)
        openssl("x509", "-req", "-in", request, "-CA", AUTHORITY / "ca.crt", "-CAkey", AUTHORITY / "ca.key",
                "-set_serial", int.from_bytes(secrets.token_bytes(16)), "-days", CERTIFICATE_DAYS,
                "-extfile", extensions, "-out", certificate)  # fmt: skip
    ca.write_bytes(authority)
    recorded.write_text(wanted)


def openssl(*arguments: object, check: bool = True) -> int:
    """Its exit code; raises CalledProcessError with what it said."""
    command = ["openssl", *map(str, arguments)]
    return subprocess.run(command, check=check, capture_output=True, text=True).returncode


def with_own_token(document: Document, folder: Path, service: str) -> Document:
    """The document with the service's token, a new one where it is not known there."""
    path = folder / "token"
    known = {entry.sha256 for entry in document.tokens}
    if path.exists() and credentials.hash_of(path.read_text().strip()) in known:
        return document
    document, token = credentials.issue(credentials.without(document, service), service, [Role.SERVICE])
    path.write_text(token)
    return document


def new_password() -> str:
    """256 bits."""
    return secrets.token_urlsafe(32)


def write_once(path: Path, content: str) -> None:
    """Where there is nothing yet."""
    if not path.exists():
        write(path, content)


def write(path: Path, content: str, mode: int = 0o600) -> None:
    """What a reader, or a run that ends half-way, sees is what was there or the whole."""
    draft = path.with_suffix(".new")
    draft.write_text(content)
    draft.chmod(mode)
    draft.rename(path)


def users() -> str:
    """Valkey's users. The server runs as another user than this program, and of passwords there are hashes alone."""
    lines = RULES.read_text().splitlines()
    for service in services():
        secret = f" #{hash_of(CREDENTIALS / service / 'valkey-password')}"
        mine = (f"user {service} ", f"user {service}-publisher ")
        lines = [line + secret if line.startswith(mine) else line for line in lines]
    return "\n".join([*lines, PROBE, f"{ADMIN} #{hash_of(CREDENTIALS / VALKEY / 'password')}"]) + "\n"


def hash_of(path: Path) -> str:
    """Of the password in a file, as Valkey's rules have it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def publish(document: Document) -> None:
    """To every service, which reads it again within a second; the authority's own first."""
    credentials.write(AUTHORITY / "tokens.json", document)
    for service in services():
        credentials.write(CREDENTIALS / service / "tokens.json", document)


def new_token(name: str, roles: list[str], days: int | None) -> None:
    """Print it; what is kept is a hash."""
    if name in services():
        raise ValueError(f"{name} is a service: its token is made by `make`")
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days) if days else None
    document, token = credentials.issue(credentials.read(AUTHORITY / "tokens.json"), name, map(Role, roles), expires)
    publish(document)
    print(token)


def list_tokens() -> None:
    """A line each: id, name, roles, until when."""
    for entry in credentials.read(AUTHORITY / "tokens.json").tokens:
        until = entry.expires.isoformat() if entry.expires else "never ends"
        print(f"{entry.token_id}  {entry.name}  {','.join(sorted(entry.roles))}  {until}")


def revoke(name: str) -> None:
    """Raises ValueError where there is nobody of that name."""
    document = credentials.read(AUTHORITY / "tokens.json")
    kept = credentials.without(document, name)
    if kept == document:
        raise ValueError(f"nobody has a token of the name {name}")
    publish(kept)
    print(f"setup: {len(document.tokens) - len(kept.tokens)} revoked")


def make_stores() -> None:
    """Each service owns a database of its name and reaches no other; Valkey takes in who is new in users.acl."""
    with postgres() as server:
        for service in services():
            make_database(server, service, (CREDENTIALS / service / "pgpass").read_text().strip().rpartition(":")[2])
    with valkey() as store:
        store.acl_load()
    print(f"setup: databases of {', '.join(services())}")


def postgres() -> Server:
    """As its superuser."""
    password = (CREDENTIALS / POSTGRES / "password").read_text()
    return psycopg.connect(host=POSTGRES, user=POSTGRES, password=password, dbname=POSTGRES, autocommit=True)


def valkey() -> redis.Redis:
    """As who may everything."""
    return redis.Redis(VALKEY, username="admin", password=(CREDENTIALS / VALKEY / "password").read_text())


def make_database(server: Server, name: str, password: str) -> None:
    """Where the role is there it gets the password that the service has."""
    role = server.execute("SELECT FROM pg_roles WHERE rolname = %s", [name]).fetchone()
    verb = sql.SQL("CREATE" if role is None else "ALTER")
    server.execute(sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, sql.Identifier(name), sql.Literal(password)))
    if server.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
        server.execute(sql.SQL("CREATE DATABASE {0} OWNER {0}").format(sql.Identifier(name)))
        server.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))


if __name__ == "__main__":
    sys.exit(main())
