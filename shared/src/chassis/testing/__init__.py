"""What tests of a service are made with: an attempt without a store, a real store, a service's real processes."""

from chassis.testing.recording import RecordedAttempt, attempt

__all__ = ["RecordedAttempt", "attempt"]
