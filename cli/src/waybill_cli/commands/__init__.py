"""Commands that talk to a gateway."""
