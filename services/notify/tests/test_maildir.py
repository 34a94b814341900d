"""A mail in a Maildir is one file, however often it is delivered."""

import mailbox
import threading

import pytest
from chassis.errors import TransientError
from notify_service.maildir import Maildir

EFFECT = "0190b0a0-0000-7000-8000-000000000001"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "deep" / "Maildir"


def deliver(folder, effect_id=EFFECT, content=b"Subject: x\r\n\r\nbody\r\n"):
    return Maildir(folder).deliver(effect_id, "waybill@localhost", "ada@example.com", content)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_mail_is_a_file_that_any_reader_finds(folder):
    """The receipt is its place in the Maildir."""
    receipt = deliver(folder)

    assert receipt == f"new/{EFFECT}"
    (message,) = mailbox.Maildir(folder, create=False)
    assert message["Subject"] == "x"


def test_a_mail_delivered_twice_is_one_file(folder):
    """The first stays as it is, and nothing else is left behind."""
    first = deliver(folder)
    second = deliver(folder, content=b"another")

    assert (first, files(folder)) == (second, [f"new/{EFFECT}"])
    assert (folder / first).read_bytes().endswith(b"body\r\n")


def test_a_mail_that_was_read_meanwhile_is_not_delivered_again(folder):
    """A reader has moved it to `cur`, with its flags."""
    (folder / deliver(folder)).rename(folder / "cur" / f"{EFFECT}:2,S")

    assert deliver(folder) == f"cur/{EFFECT}:2,S"
    assert files(folder) == [f"cur/{EFFECT}:2,S"]


def test_a_mail_that_is_read_while_it_is_delivered_again_is_one_file(folder, monkeypatch):
    """The reader moves the first one between the look into `cur` and the link."""
    first = folder / deliver(folder)
    link = Maildir._link

    def moved_just_before(self, draft, name):
        first.rename(folder / "cur" / f"{EFFECT}:2,")
        link(self, draft, name)

    monkeypatch.setattr(Maildir, "_link", moved_just_before)

    assert deliver(folder) == f"cur/{EFFECT}:2,"
    assert files(folder) == [f"cur/{EFFECT}:2,"]


def test_mails_delivered_at_once_are_one_file(folder):
    """A rescued attempt may still run."""
    barrier, receipts = threading.Barrier(8), []

    def attempt():
        barrier.wait()
        receipts.append(deliver(folder))

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert receipts == [f"new/{EFFECT}"] * 8
    assert files(folder) == [f"new/{EFFECT}"]


def test_other_effects_are_other_files(folder):
    deliver(folder)
    deliver(folder, EFFECT[:-1] + "2")

    assert len(files(folder)) == 2


def test_a_folder_that_cannot_be_written_is_worth_another_attempt(tmp_path):
    """A full or missing disk comes back."""
    (tmp_path / "file").write_text("")

    with pytest.raises(TransientError) as caught:
        deliver(tmp_path / "file" / "Maildir")

    assert caught.value.reason == "MAILDIR_UNWRITABLE"
