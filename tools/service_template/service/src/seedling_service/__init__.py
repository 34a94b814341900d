"""The seedling service."""
