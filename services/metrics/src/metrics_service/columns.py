"""How labels stand in a text column: a JSON list of [name, value], which every database takes as it is."""

import json

from metrics_service.series import Labels


def dump_labels(labels: Labels) -> str:
    """ASCII only, so that no character of a label is beyond a database's text."""
    return json.dumps(labels, separators=(",", ":"))


def load_labels(text: str) -> Labels:
    """What `dump_labels` wrote."""
    return tuple((key, value) for key, value in json.loads(text))
