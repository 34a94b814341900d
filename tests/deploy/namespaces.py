"""Machines that share nothing but a network: one network namespace each, joined by a bridge."""

import secrets
import subprocess

NETWORK = "10.213.77"
# Else a bridge has the lowest address of its ports, and a new cable may take it from those who know it.
BRIDGE = "02:57:42:00:00:01"


class Network:
    """A namespace `home` with a bridge, and one namespace for each further machine. Needs root."""

    def __init__(self):
        self._mark = f"wb{secrets.token_hex(2)}"
        self._machines = []
        self._home = self._namespace("home")
        self.home_address = f"{NETWORK}.1"
        self._in(self._home, "ip", "link", "add", "bridge", "address", BRIDGE, "type", "bridge")
        self._in(self._home, "ip", "address", "add", f"{self.home_address}/24", "dev", "bridge")
        self._in(self._home, "ip", "link", "set", "bridge", "up")
        self._plug(None, 254)

    def at_home(self, *command):
        """The command line that runs it on the machine of Valkey and the gateway."""
        return ["ip", "netns", "exec", self._home, *command]

    def machine(self):
        """A further machine: a function that turns a command line into one that runs there."""
        number = len(self._machines) + 1
        namespace = self._namespace(f"m{number}")
        self._plug(namespace, 10 + number)
        return lambda *command: ["ip", "netns", "exec", namespace, *command]

    def close(self):
        for namespace in self._machines:
            subprocess.run(["ip", "netns", "delete", namespace], check=False)

    def _namespace(self, name):
        namespace = f"{self._mark}-{name}"
        _run("ip", "netns", "add", namespace)
        self._machines.append(namespace)
        self._in(namespace, "ip", "link", "set", "lo", "up")
        return namespace

    def _plug(self, namespace, number):
        """A cable from the bridge to that namespace; None: the one that the tests run in."""
        here, there = f"{self._mark}{number}", f"{self._mark}b{number}"
        _run("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", self._home)
        self._in(self._home, "ip", "link", "set", there, "master", "bridge", "up")
        prefix = []
        if namespace is not None:
            _run("ip", "link", "set", here, "netns", namespace)
            prefix = ["ip", "netns", "exec", namespace]
        _run(*prefix, "ip", "address", "add", f"{NETWORK}.{number}/24", "dev", here)
        _run(*prefix, "ip", "link", "set", here, "up")

    @staticmethod
    def _in(namespace, *command):
        _run("ip", "netns", "exec", namespace, *command)


def _run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
