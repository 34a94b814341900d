"""What the command takes from the environment."""

import os
from collections.abc import Mapping
from pathlib import Path

from chassis.credentials import parse_secret
from chassis.settings import WaybillSettings, load

DEFAULT_GATEWAY = "127.0.0.1:50051"
DEFAULT_TRACES = "127.0.0.1:50054"


def environment() -> dict[str, str]:
    """A copy of the whole environment: what the processes of a stack begin with."""
    return dict(os.environ)


def token(environment: Mapping[str, str]) -> str:
    """The token of WAYBILL_TOKEN or of the file WAYBILL_TOKEN_FILE; empty for none. Raises OSError, ValueError."""
    if path := environment.get("WAYBILL_TOKEN_FILE"):
        return parse_secret(Path(path).read_bytes())
    return environment.get("WAYBILL_TOKEN", "")


def is_insecure(environment: Mapping[str, str]) -> bool:
    """Whether WAYBILL_INSECURE lets a token cross a network without TLS."""
    return environment.get("WAYBILL_INSECURE", "").lower() in {"1", "true", "yes", "on"}


def state_dir() -> Path:
    """WAYBILL_STATE_DIR or its default; raises SettingsError with every bad WAYBILL_ variable."""
    return load(WaybillSettings).state_dir
