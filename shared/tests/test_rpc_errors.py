"""What of a Status fits into the metadata that clients take."""

from chassis import errors, statuses
from chassis.rpc_errors import fitted
from google.rpc import error_details_pb2, status_pb2


def test_a_status_is_cut_to_what_clients_take():
    """A thousand violations become as many as fit in gRPC's metadata, and the number of the rest."""
    violations = [errors.FieldViolation(f"samples[{n}].value", "must be finite") for n in range(1_000)]
    status = statuses.to_status(errors.InvalidArgument(violations), "metrics")

    fit = fitted(status)

    assert fit.ByteSize() < 4_500
    kept = statuses.violations_of(fit)
    assert kept[0] == violations[0]
    assert len(kept) > 40
    assert kept[-1].description == f"and {1_000 - len(kept) + 1} more violations, too many for one answer"
    assert statuses.detail(fit, error_details_pb2.ErrorInfo).reason == "INVALID_REQUEST"


def test_a_status_that_fits_is_left_alone():
    """Nothing is lost from an ordinary error."""
    status = statuses.to_status(errors.InvalidArgument([errors.FieldViolation("a", "b")]), "metrics")

    assert fitted(status) == status


def test_a_long_message_is_cut():
    """The message counts three bytes for each one that is not ASCII."""
    fit = fitted(status_pb2.Status(code=3, message="ü" * 5_000))

    assert 50 < len(fit.message) < 400
