import json

import pytest
from dashboard_service import contracts, openapi
from google.protobuf import json_format, message_factory
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from waybill.reports.v1 import reports_pb2

SERVICES = ("metrics", "notify", "reports")


@pytest.fixture(scope="module")
def document():
    return json.loads(json.dumps(openapi.document(SERVICES, "http://127.0.0.1:8080")))


@pytest.fixture(scope="module")
def validator(document):
    """Checks values against a schema of the document."""
    registry = Registry().with_resource("urn:waybill", Resource.from_contents(document, DRAFT202012))

    def of(name):
        return Draft202012Validator({"$ref": f"urn:waybill#/components/schemas/{name}"}, registry=registry)

    return of


def test_the_document_is_valid(document):
    """By a validator of the OpenAPI 3.1 specification, schemas included."""
    assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_every_method_that_accepts_work_is_described(document):
    """None is missing, and each is called by the path that it is described under."""
    described = {path for path, item in document["paths"].items() if "post" in item}

    assert described == {
        f"/api/v1/{service}/{contracts.kebab(name)}" for service in SERVICES for name in contracts.work_methods(service)
    }


def test_what_is_sent_and_answered_is_as_described(browser, validator):
    """A real answer, and the request in the form that the JSON mapping gives it."""
    request = reports_pb2.RenderReportRequest(
        title="x", sections=[reports_pb2.Section(text=reports_pb2.TextSection(title="a", text="b"))], facts={"k": "v"}
    )
    request.options.expire_time.FromSeconds(4_000_000_000)
    sent = json_format.MessageToDict(request)
    answer = browser.post("/api/v1/reports/render-report", json=sent).json
    listed = browser.get("/api/v1/operations").json
    problem = browser.post("/api/v1/reports/render-report", json={"titel": "x"}).json

    validator("waybill.reports.v1.RenderReportRequest").validate(sent)
    validator("google.longrunning.Operation").validate(answer)
    validator("google.longrunning.ListOperationsResponse").validate(listed)
    validator("waybill.operations.v1.OperationMetadata").validate(
        {name: value for name, value in answer["metadata"].items() if name != "@type"}
    )
    validator("Problem").validate(problem)


def test_what_the_contract_does_not_take_is_refused_by_the_schema(validator):
    """Types and enums are told apart, so that the document is worth something to a generator."""
    schema = validator("waybill.reports.v1.RenderReportRequest")

    assert not schema.is_valid({"title": 7})
    assert not schema.is_valid({"format": "DOCX"})
    assert not schema.is_valid({"sections": {}})


def test_every_message_of_the_contracts_has_a_schema_that_takes_its_default(document, validator):
    """Also the ones that hold themselves."""
    for name in document["components"]["schemas"]:
        kind = _message(name)
        if kind is not None:
            validator(name).validate(json_format.MessageToDict(kind(), always_print_fields_with_no_presence=True))


def _message(name):
    for file in contracts.load():
        for descriptor in file.message_types_by_name.values():
            if descriptor.full_name == name:
                return message_factory.GetMessageClass(descriptor)
    return None


def test_the_index_links_to_the_document(browser):
    """In the body and as a link of the service's description."""
    index = browser.get("/api/v1/")
    served = browser.get(index.json["openapi"])

    assert index.json["openapi"] in index.headers["Link"]
    assert served.json["openapi"] == "3.1.0"
    assert served.json["servers"] == [{"url": "http://localhost"}]
