"""The demo's stack stands by itself: its own ports, its own folder, none of the settings around it."""

import hashlib
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage

from waybill_cli.demo import mail
from waybill_cli.demo.site import new_folder, own_plan

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_settings_of_another_stack_do_not_reach_the_demo(tmp_path):
    """A Redis, a listener or a collector that is configured for real work is left alone."""
    surrounding = {
        "PATH": "/bin",
        "WAYBILL_REDIS_URL": "redis://production:6379/0",
        "REPORTS_DATABASE_URL": "postgresql://production/reports",
        "NOTIFY_SMTP_URL": "smtp://production",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317",
    }

    plan = own_plan(surrounding, tmp_path)

    assert plan.environment == {"PATH": "/bin"}
    assert plan.redis_url is None


def test_every_listener_has_a_port_of_its_own(tmp_path):
    """Two demos and a stack run side by side."""
    plan = own_plan({}, tmp_path)

    assert len(set(plan.addresses.values())) == len(plan.addresses) == 5
    assert plan.state_dir == tmp_path / "state"


def test_each_run_has_a_new_folder_and_the_last_few_are_kept(tmp_path):
    """What a demo left can be looked at, and the folder does not grow for ever."""
    folders = [new_folder(tmp_path, NOW + timedelta(seconds=n)) for n in range(8)]

    left = sorted(path.name for path in (tmp_path / "waybill-demo").iterdir())
    assert left == [folder.name for folder in folders[-5:]]
    assert (folders[-1] / "logs").is_dir()


def test_a_mail_is_known_by_its_subject_and_the_digests_of_its_attachments(tmp_path):
    """The report in the mail is compared with the report that was downloaded, byte by byte."""
    message = EmailMessage()
    message["Subject"] = "Incident report: processor saturated"
    message.set_content("attached")
    message.add_attachment(b"%PDF-1.7 ...", maintype="application", subtype="pdf", filename="incident.pdf")
    path = tmp_path / "mail"
    path.write_bytes(message.as_bytes())

    found = mail.read(path)

    assert found.subject == "Incident report: processor saturated"
    assert found.attachments == {"incident.pdf": hashlib.sha256(b"%PDF-1.7 ...").hexdigest()}
