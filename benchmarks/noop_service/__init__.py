"""The service that benchmarks run: one task that does nothing."""
