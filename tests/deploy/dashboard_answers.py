"""Is the dashboard closed, and does it show operations to who has a token? Exit code 0 says so.

dashboard_answers.py https://HOST:PORT --ca-file FILE --token-file FILE
"""

import argparse
import ssl
import sys
from pathlib import Path

import httpx

PAGE = "/operations"
API = "/api/v1/operations?service=metrics"


def main():
    """Without a token, then with one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("--ca-file", required=True)
    parser.add_argument("--token-file", required=True, type=Path)
    options = parser.parse_args()
    bearer = {"Authorization": f"Bearer {options.token_file.read_text().strip()}"}
    with httpx.Client(base_url=options.address, verify=ssl.create_default_context(cafile=options.ca_file)) as client:
        sent_to = client.get(PAGE)
        refused, answered = client.get(API), client.get(API, headers=bearer)
    print(f"{PAGE}: {sent_to.status_code} {sent_to.headers.get('location', '')}")
    print(f"{API}: {refused.status_code}, with a token {answered.status_code}")
    well = sent_to.is_redirect and refused.status_code == httpx.codes.UNAUTHORIZED and answered.is_success
    return 0 if well and answered.json()["operations"] else 1


if __name__ == "__main__":
    sys.exit(main())
