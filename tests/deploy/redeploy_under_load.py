"""Runs a command, a deploy, while clients use the stack, and says whether anything was lost or repeated.

    redeploy_under_load.py --gateway HOST:PORT --ca-file FILE --token-file FILE --mailpit http://HOST:PORT -- COMMAND

Clients send notifications, each a mail to an address of this run, through the gateway that they are given. What is
refused while the service is away they send again, under the same request_id, until it is accepted. Exit code 0: the
command succeeded, every notification was accepted once, its operations ended well without an attempt lost, and
there is one mail for each.
"""

import argparse
import subprocess
import sys
import threading
import time
import uuid
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import httpx
import waybill_client
from google.protobuf.struct_pb2 import Struct
from waybill.notify.v1 import notify_pb2
from waybill.operations.v1 import operations_pb2 as ops

CLIENTS = 4
# So many each client sends before the deploy and after it.
AROUND = 20
# The service is one gateway here, which is away for as long as a container takes to start.
ACCEPTED_WITHIN_SECONDS = 180.0
ENDED_WITHIN = timedelta(seconds=180)
PAUSE_SECONDS = 0.1
TEMPLATE = "redeployed"


class Client:
    """Sends one notification after the other; `sent` has the operation of each request_id."""

    def __init__(self, connection, address):
        self.sent, self.again, self.problem = {}, 0, ""
        self._connection, self._address = connection, address
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self):
        """After what is under way."""
        self._ended.set()
        self._thread.join()

    def wait_for(self, more):
        """Until so many more have been accepted; raises SystemExit for a client that has given up."""
        goal = len(self.sent) + more
        while len(self.sent) < goal:
            if self.problem:
                raise SystemExit(self.problem)
            time.sleep(PAUSE_SECONDS)

    def _run(self):
        try:
            while not self._ended.is_set():
                request_id = uuid.uuid4().hex
                self.sent[request_id] = self._accepted(request_id)
                time.sleep(PAUSE_SECONDS)
        except waybill_client.WaybillError as error:
            self.problem = f"not accepted within {ACCEPTED_WITHIN_SECONDS:g} s: {error}"

    def _accepted(self, request_id):
        deadline = time.monotonic() + ACCEPTED_WITHIN_SECONDS
        while True:
            try:
                return self._connection.submit(notification(request_id, self._address)).name
            except (waybill_client.Unavailable, waybill_client.Cancelled, waybill_client.DeadlineExceeded):
                if time.monotonic() > deadline:
                    raise
                self.again += 1
                time.sleep(PAUSE_SECONDS)


def main():
    """Load, command, load, judgement."""
    options = arguments()
    address = f"redeployed-{uuid.uuid4().hex[:8]}@example.com"
    tls, token = waybill_client.Tls(options.ca_file), options.token_file.read_text().strip()
    with waybill_client.connect(options.gateway, tls=tls, token=token) as connection:
        ensure_template(connection)
        clients = [Client(connection, address) for _ in range(CLIENTS)]
        for client in clients:
            client.wait_for(AROUND)
        subprocess.run(options.command, check=True)
        for client in clients:
            client.wait_for(AROUND)
            client.end()
        names = [name for client in clients for name in client.sent.values()]
        print(f"{len(names)} accepted, {sum(client.again for client in clients)} sent again, to {options.gateway}")
        wrong = [*judged(connection, names), *judged_mails(options.mailpit, address, len(names))]
    for each in wrong:
        print(f"WRONG: {each}", file=sys.stderr)
    return 1 if wrong else 0


def arguments():
    """The command is what stands behind `--`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", required=True, help="of another service than the one that is deployed")
    parser.add_argument("--ca-file", required=True, type=Path)
    parser.add_argument("--token-file", required=True, type=Path, help="of an operator")
    parser.add_argument("--mailpit", required=True, help="where Mailpit's pages are")
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


def ensure_template(connection):
    """One that says what the notification is."""
    template = notify_pb2.Template(template_id=TEMPLATE, subject="Number {{ number }}", text="This is {{ number }}.")
    with suppress(waybill_client.AlreadyExists):
        connection.call(notify_pb2.CreateTemplateRequest(template=template))


def notification(request_id, address):
    """A mail to the address."""
    variables = Struct()
    variables.update({"number": request_id})
    recipient = notify_pb2.Recipient(
        recipient_id="redeployed", channels=[notify_pb2.Channel(email=notify_pb2.EmailChannel(address=address))]
    )
    return notify_pb2.SendNotificationRequest(
        request_id=request_id, template_id=TEMPLATE, variables=variables, recipients=[recipient]
    )


def judged(connection, names):
    """What is wrong with the operations: the notifications, and the deliveries that they fan out to."""
    if len(set(names)) != len(names):
        yield f"{len(names)} requests are {len(set(names))} operations"
    for name in names:
        # A notification ends when all its deliveries have ended.
        ended = connection.operations.get(name).wait(timeout=ENDED_WITHIN)
        if ended.state is not waybill_client.State.SUCCEEDED:
            yield f"{name} is {ended.state}"
        if lost := sum(each.outcome == ops.ATTEMPT_OUTCOME_LOST for each in ended.metadata.attempts):
            yield f"{name} lost {lost} attempts"


def judged_mails(mailpit, address, count):
    """What is wrong with the mails."""
    found = httpx.get(f"{mailpit}/api/v1/search", params={"query": f'to:"{address}"', "limit": 1}, timeout=30)
    mails = found.raise_for_status().json()["messages_count"]
    if mails != count:
        yield f"{mails} mails for {count} notifications"


if __name__ == "__main__":
    sys.exit(main())
