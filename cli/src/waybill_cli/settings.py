"""What the command takes from the environment."""

import os
from pathlib import Path

from chassis.settings import WaybillSettings, load

DEFAULT_GATEWAY = "127.0.0.1:50051"
DEFAULT_TRACES = "127.0.0.1:50054"


def environment() -> dict[str, str]:
    """A copy of the whole environment: what the processes of a stack begin with."""
    return dict(os.environ)


def state_dir() -> Path:
    """WAYBILL_STATE_DIR or its default; raises SettingsError with every bad WAYBILL_ variable."""
    return load(WaybillSettings).state_dir
