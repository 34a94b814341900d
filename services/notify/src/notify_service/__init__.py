"""The notify service: one notification becomes a delivery per recipient and channel."""
