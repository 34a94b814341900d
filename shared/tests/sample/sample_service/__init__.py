"""A service with nothing to do but what the engine's tests ask of it."""
