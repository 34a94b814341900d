"""The metrics service: samples become rollups, rollups become alerts."""
