"""A TCP proxy in front of Valkey that loses replies: the server has done what it was asked, and nobody is told."""

import socket
import struct
import threading
from contextlib import suppress
from urllib.parse import urlsplit

from chassis.store import script_sha

LOOPBACK = "127.0.0.1"
CHUNK = 1 << 16
WAIT_SECONDS = 60.0


class Proxy:
    """Listens on loopback, from its start to the end of the block; `url` is Valkey by way of it.

    Args:
        url: of the server behind it.
    """

    def __init__(self, url):
        self._behind = (urlsplit(url).hostname, urlsplit(url).port)
        self._socket = socket.create_server((LOOPBACK, 0))
        self.url = "redis://{}:{}/0".format(*self._socket.getsockname())
        self._changed = threading.Condition()
        self._pairs = set()
        self._to_cut = {}
        self._to_hold = set()
        self._held = 0
        self._released = threading.Event()
        #: Scripts whose replies were cut, in order.
        self.cut: list[str] = []

    def cut_replies(self, script, times):
        """Reset the connection instead of passing the next replies to this script on."""
        with self._changed:
            self._to_cut[script] = self._to_cut.get(script, 0) + times

    def hold_replies(self, script):
        """Keep every reply to this script back until `reset`."""
        with self._changed:
            self._released.clear()
            self._to_hold.add(script)

    def wait_until_cut(self, times):
        """Until as many replies have been cut in all. Raises TimeoutError."""
        self._wait(lambda: len(self.cut) >= times, f"{times} cut replies")

    def wait_until_held(self):
        """Until a reply is kept back: the server has done it. Raises TimeoutError."""
        self._wait(lambda: self._held, "a held reply")

    def reset(self):
        """Reset every connection, and hold nothing back any more."""
        with self._changed:
            self._to_hold.clear()
            self._held = 0
            pairs = list(self._pairs)
        self._released.set()
        for pair in pairs:
            self._end(pair)

    def __enter__(self):
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()
        return self

    def __exit__(self, *_):
        self._socket.close()
        self.reset()

    def _wait(self, predicate, what):
        with self._changed:
            if not self._changed.wait_for(predicate, WAIT_SECONDS):
                raise TimeoutError(f"{what}: not within {WAIT_SECONDS} s")

    def _accept(self):
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._behind)
            except OSError:
                _reset(client)
                continue
            pair = _Pair(client, server)
            with self._changed:
                self._pairs.add(pair)
            for pump in (self._requests, self._replies):
                threading.Thread(target=pump, args=(pair,), daemon=True).start()

    def _requests(self, pair):
        with suppress(OSError):
            while chunk := pair.client.recv(CHUNK):
                pair.note(chunk)
                pair.server.sendall(chunk)
        self._end(pair)

    def _replies(self, pair):
        with suppress(OSError):
            while chunk := pair.server.recv(CHUNK):
                if self._lost(pair.script):
                    break
                pair.client.sendall(chunk)
        self._end(pair)

    def _lost(self, script):
        with self._changed:
            if script in self._to_hold:
                self._held += 1
                self._changed.notify_all()
            elif self._to_cut.get(script, 0):
                self._to_cut[script] -= 1
                self.cut.append(script)
                self._changed.notify_all()
                return True
            else:
                return False
        self._released.wait()
        return True

    def _end(self, pair):
        with self._changed:
            self._pairs.discard(pair)
        _reset(pair.client)
        _reset(pair.server)


class _Pair:
    """A client's connection and the one behind it."""

    NAMES = tuple((script_sha(name).encode(), name) for name in ("accept", "fetch", "begin", "settle"))

    def __init__(self, client, server):
        self.client, self.server = client, server
        #: Of the last request, by the script's name; empty where it is none of those above.
        self.script = ""

    def note(self, request):
        self.script = next((name for sha, name in self.NAMES if sha in request), "")


def _reset(connection):
    """Close with RST, as a machine that has lost the connection does."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
