"""Sessions of browsers: a signed cookie that names the hash of the token that one has logged in with.

Nothing is kept of them here, so that they outlive a restart and count in every process that has the key. One ends with
its token, when its time is over, or when the browser forgets it.
"""

import os
import secrets
from datetime import timedelta
from pathlib import Path

from chassis import credentials
from chassis.authority import Authority
from chassis.credentials import Principal
from itsdangerous import BadSignature, URLSafeTimedSerializer

KEY_BYTES = 32


class Sessions:
    """Of one dashboard. Raises OSError where the key can neither be read nor made."""

    def __init__(self, authority: Authority, key_file: Path, lasts: timedelta) -> None:
        self._authority = authority
        self._lasts = lasts
        self._signer = URLSafeTimedSerializer(_key(key_file), salt="waybill-session")

    def begin(self, token: str) -> str:
        """The cookie of a new session; raises Unauthenticated for a token that nobody has or that is over."""
        self._authority.identify(f"Bearer {token}")
        return str(self._signer.dumps(credentials.hash_of(token)))

    def principal(self, cookie: str) -> Principal | None:
        """Whose session it is; None for one that is over or that was never begun here."""
        try:
            sha256 = self._signer.loads(cookie, max_age=round(self._lasts.total_seconds()))
        except BadSignature:
            return None
        return self._authority.by_hash(sha256) if isinstance(sha256, str) else None


def _key(path: Path) -> bytes:
    """That of the file, which the first process to come makes: whole, or not at all."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.touch(mode=credentials.FILE_MODE)
        draft.write_bytes(secrets.token_bytes(KEY_BYTES))
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_bytes()
