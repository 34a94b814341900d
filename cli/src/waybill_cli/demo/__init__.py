"""`waybill demo`: the incident pipeline on this machine's live metrics."""
