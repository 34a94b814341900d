"""Child processes that end when the process that started them ends, however it ends."""

import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# Runs in a fresh interpreter between fork and the program itself, so nothing of the parent's threads
# or locks is there. PR_SET_PDEATHSIG is 1 (linux/prctl.h) and outlives execve.
_SHIM = """\
import ctypes, os, sys
number, parent, *command = sys.argv[1:]
ctypes.CDLL(None).prctl(1, int(number), 0, 0, 0)
if os.getppid() != int(parent):
    sys.exit(1)
os.execvp(command[0], command)
"""

_keeper: ThreadPoolExecutor | None = None
_keeper_lock = threading.Lock()


def tethered(command: Sequence[str], parent: int, *, on_death: signal.Signals = signal.SIGTERM) -> list[str]:
    """The command line that runs `command` and sends it `on_death` when process `parent` has ended.

    Only Linux offers this; elsewhere the command comes back unchanged and outlives a killed parent.
    Linux watches the thread that forks, not its process: start the child by `from_a_lasting_thread`.
    """
    if not sys.platform.startswith("linux"):
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _SHIM, str(int(on_death)), str(parent), *command]


def from_a_lasting_thread(start: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `start` in a thread that lives as long as this process."""
    if threading.current_thread() is threading.main_thread():
        return start(*args, **kwargs)
    return _the_keeper().submit(start, *args, **kwargs).result()


def _the_keeper() -> ThreadPoolExecutor:
    global _keeper  # noqa: PLW0603 - one thread a process, made at its first use
    with _keeper_lock:
        _keeper = _keeper or ThreadPoolExecutor(max_workers=1, thread_name_prefix="tether")
        return _keeper
