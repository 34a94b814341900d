"""A browser's side of server-sent events: reads frames as they come and remembers the last id."""

import json
from typing import Any, NamedTuple, Self

import httpx

WAIT_SECONDS = 30


class Frame(NamedTuple):
    """One event as the browser dispatches it."""

    event: str
    data: Any
    id: str


class LiveClient:
    """One connection. `last_id` moves with every id, as EventSource's does."""

    def __init__(self, url: str, last_id: str = "") -> None:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        self.last_id = last_id
        self._client = httpx.Client(timeout=WAIT_SECONDS)
        self._response = self._client.send(self._client.build_request("GET", url, headers=headers), stream=True)
        self.status = self._response.status_code
        self._lines = self._response.iter_lines()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._response.close()
        self._client.close()

    def body(self) -> Any:
        return json.loads(self._response.read())

    def next(self, *events: str) -> Frame:
        """The next frame, or the next of these events; raises StopIteration at the stream's end."""
        while True:
            frame = self._read()
            if frame.event and (not events or frame.event in events):
                return frame

    def until(self, done) -> list[dict[str, Any]]:
        """Operations in the order in which they came, until `done` holds for one of them."""
        seen = []
        while True:
            for change in self.next("operations").data:
                seen.append(change)
                if done(change):
                    return seen

    def _read(self) -> Frame:
        fields: dict[str, str] = {}
        for line in self._lines:
            if not line:
                break
            name, _, value = line.partition(": ")
            fields[name] = value
        else:
            raise StopIteration
        self.last_id = fields.get("id", self.last_id)
        data = json.loads(fields["data"]) if "data" in fields else None
        return Frame(fields.get("event", ""), data, fields.get("id", ""))
