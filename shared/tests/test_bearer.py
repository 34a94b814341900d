"""What a process shows to other services."""

import pytest
from chassis.bearer import Bearer
from chassis.errors import Unauthenticated
from chassis.settings import WaybillSettings


def test_a_process_without_a_token_shows_none():
    """Its certificate, where there is TLS, is all that it has."""
    assert Bearer(WaybillSettings()).metadata("10.1.2.3:1") == ()


def test_a_token_stays_on_this_machine_without_tls():
    """Unless WAYBILL_INSECURE says that it may cross the network."""
    bearer = Bearer(WaybillSettings(token="t"))

    assert bearer.metadata("127.0.0.1:1") == (("authorization", "Bearer t"),)
    with pytest.raises(Unauthenticated, match="without TLS"):
        bearer.metadata("depot.example:1")
    assert Bearer(WaybillSettings(token="t", insecure=True)).metadata("depot.example:1")


def test_a_token_from_a_file_is_read_again(tmp_path):
    """So that it can be replaced while the process runs; a file that holds none leaves the one before in use."""
    path = tmp_path / "token"
    path.write_text("one\n")
    bearer = Bearer(WaybillSettings(token_file=path))
    assert bearer.metadata("127.0.0.1:1")[0][1] == "Bearer one"

    for text, shown in (("two words", "one"), ("two\n", "two")):
        path.write_text(text)
        bearer._file.look()
        assert bearer.metadata("127.0.0.1:1")[0][1] == f"Bearer {shown}"
