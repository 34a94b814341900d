"""RQ's no-op."""


def do_nothing(text: str) -> None:
    """Take what came."""
