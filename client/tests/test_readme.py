"""The README's programs run as they stand, and what they use of `submit` holds."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import waybill_client
from waybill.reports.v1 import reports_pb2

PROGRAMS = re.findall(r"```python\n(.*?)```", (Path(__file__).parent.parent / "README.md").read_text(), re.DOTALL)


def a_report(**fields):
    section = reports_pb2.Section(text=reports_pb2.TextSection(title="Status", text="All is well."))
    return reports_pb2.RenderReportRequest(
        **{"template_id": "standard", "title": "Status", "sections": [section], **fields}
    )


def test_the_programs_of_the_readme_run_and_submit_keeps_its_promises(reports_address, tmp_path):
    """Both styles end well; a repeated request_id is one operation; refusals name every field and their reason."""
    printed = [run(program.replace("127.0.0.1:50051", reports_address), tmp_path) for program in PROGRAMS]

    assert len(printed) == 2
    assert "INVALID_REQUEST ['template_id', 'title', 'sections']" in printed[0]
    assert "SUCCEEDED" in printed[0]
    with waybill_client.connect(reports_address) as client:
        again = client.submit(a_report(), request_id="status-of-monday")
        fresh = client.submit(a_report())

        assert again.name in printed[0]
        assert fresh.metadata.request_id
        assert fresh.name != again.name
        with pytest.raises(waybill_client.InvalidArgument) as reused:
            client.submit(a_report(title="Another"), request_id="status-of-monday")
        assert reused.value.reason == "REQUEST_ID_REUSED"


def run(program, folder):
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
