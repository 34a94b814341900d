"""`waybill tokens` keeps the file that gateways read, and never shows a token twice."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from chassis import credentials
from click.testing import CliRunner
from waybill_cli.__main__ import main


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "tokens.json"


@pytest.fixture
def tokens(path):
    def run(*arguments):
        return CliRunner().invoke(main, ["tokens", *arguments, "--file", str(path)])

    return run


def test_a_token_is_printed_once_and_kept_as_a_hash(tokens, path):
    """What the file says lets nobody in, and nobody but its owner may read it."""
    created = tokens("create", "ci", "--role", "submitter", "--role", "viewer", "--expires-in", "30d")

    token = created.stdout.strip()
    assert created.exit_code == 0
    assert token not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    principal = credentials.parse(path.read_bytes()).by_token(token)
    assert (principal.name, set(principal.roles)) == ("ci", {"submitter", "viewer"})
    assert timedelta(days=29) < datetime.fromtimestamp(principal.expires, UTC) - datetime.now(UTC) <= timedelta(days=30)


def test_the_list_names_tokens_without_showing_them(tokens):
    """By an id, which is no secret, so that one of several of a name can be revoked."""
    token = tokens("create", "ci", "--role", "submitter").stdout.strip()
    tokens("create", "ops", "--role", "operator", "--expires-in", "1h")

    listed = json.loads(tokens("list", "--json").stdout)["tokens"]

    assert [(each["name"], each["roles"]) for each in listed] == [("ci", ["submitter"]), ("ops", ["operator"])]
    assert (bool(listed[0]["expires"]), bool(listed[1]["expires"])) == (False, True)
    assert token not in tokens("list").stdout
    assert listed[0]["id"] in tokens("list").stdout


def test_tokens_are_revoked_by_name_or_by_id(tokens, path):
    """A name's tokens all at once; an id's alone. What else the file says stays."""
    old = tokens("create", "ci", "--role", "submitter").stdout.strip()
    new = tokens("create", "ci", "--role", "submitter").stdout.strip()
    document = credentials.read(path)
    certificate = credentials.CertificateEntry(name="reports", roles=["service"])
    credentials.write(path, document.model_copy(update={"certificates": (certificate,)}))

    assert tokens("revoke", credentials.hash_of(old)[:12]).stdout == "1 revoked\n"
    registry = credentials.parse(path.read_bytes())
    assert registry.by_token(old) is None
    assert registry.by_token(new)
    assert tokens("revoke", "ci").exit_code == 0
    registry = credentials.parse(path.read_bytes())
    assert registry.by_token(new) is None
    assert registry.by_name(["reports"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "ci"),
        ("create", "ci", "--role", "root"),
        ("create", " ci", "--role", "viewer"),
        ("create", "Zoë", "--role", "viewer"),
        ("revoke", "nobody"),
    ],
)
def test_what_makes_no_sense_changes_nothing(tokens, path, arguments):
    """Wrong usage is exit code 2, and says what was expected."""
    result = tokens(*arguments)

    assert result.exit_code == 2
    assert not path.exists()


def test_a_file_that_is_broken_is_not_written_over(tokens, path):
    """Whoever broke it may still want what it says."""
    path.parent.mkdir()
    path.write_text("{")

    assert tokens("create", "ci", "--role", "viewer").exit_code == 1
    assert path.read_text() == "{"
