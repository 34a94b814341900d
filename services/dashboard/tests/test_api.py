import pytest

RENDER = "/api/v1/reports/render-report"
CODES = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "UNAUTHENTICATED": 401,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
}


@pytest.mark.parametrize("path", [RENDER, "/api/v1/reports/RenderReport"])
def test_a_request_becomes_an_operation(fakes, browser, path):
    """The JSON form is handed to the gateway; the answer is the operation and where to follow it."""
    answer = browser.post(path, json={"title": "A title", "templateId": "incident"})

    assert answer.status_code == 202
    name = answer.json["name"]
    assert answer.headers["Location"] == f"/api/v1/{name}"
    assert answer.json["metadata"]["@type"].endswith("waybill.operations.v1.OperationMetadata")
    assert fakes["reports"].received[0].title == "A title"
    assert browser.get(answer.headers["Location"]).json["name"] == name


@pytest.mark.parametrize(("code", "status"), CODES.items())
def test_every_refusal_of_a_gateway_is_a_problem_with_all_violations(browser, code, status):
    """Each gRPC code has its HTTP code, and every field violation is there."""
    answer = browser.post(RENDER, json={"title": f"fail {code}"})

    assert answer.status_code == status
    assert answer.mimetype == "application/problem+json"
    assert (answer.json["code"], answer.json["reason"], answer.json["domain"]) == (code, "REFUSED", "fake")
    assert answer.json["violations"] == [
        {"field": "title", "description": "is wrong"},
        {"field": "sections", "description": "are missing"},
    ]


def test_a_body_that_is_wrong_never_reaches_the_gateway(fakes, browser):
    """Everything wrong with the JSON itself is told at once."""
    answer = browser.post(RENDER, json={"title": 1, "sections": [{"chart": {"metrik": "x"}}], "nonsense": True})

    assert answer.status_code == 400
    assert {each["field"] for each in answer.json["violations"]} == {"title", "sections[0].chart.metrik", "nonsense"}
    assert fakes["reports"].received == []


@pytest.mark.parametrize("key", ["header", "body"])
def test_a_repeated_request_is_one_operation(browser, key):
    """The Idempotency-Key header stands for request_id, and both give one operation."""

    def send():
        body = {"title": "t", **({"requestId": "once"} if key == "body" else {})}
        return browser.post(RENDER, json=body, headers={"Idempotency-Key": "once"} if key == "header" else {})

    assert send().json["name"] == send().json["name"]


def test_two_keys_that_differ_are_refused(fakes, browser):
    """A header that contradicts the body is an error, not a choice."""
    answer = browser.post(RENDER, json={"title": "t", "requestId": "a"}, headers={"Idempotency-Key": "b"})

    assert answer.status_code == 400
    assert answer.json["violations"][0]["field"] == "Idempotency-Key"
    assert fakes["reports"].received == []


def test_a_batch_answers_each_item(browser):
    """A batch is no operation itself: 200 with one operation or one error per request."""
    answer = browser.post("/api/v1/notify/batch-send-notifications", json={"requests": [{"templateId": "a"}, {}]})

    assert answer.status_code == 200
    assert [list(item) for item in answer.json["items"]] == [["operation"], ["error"]]


def test_a_batch_has_no_key_of_its_own(browser):
    """Its requests have theirs; a header for all of them would say what is not so."""
    answer = browser.post(
        "/api/v1/notify/batch-send-notifications", json={"requests": []}, headers={"Idempotency-Key": "x"}
    )

    assert (answer.status_code, answer.json["violations"][0]["field"]) == (400, "Idempotency-Key")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/api/v1/reports/get-report", "METHOD_NOT_FOUND"),
        ("/api/v1/nobody/render-report", "SERVICE_NOT_FOUND"),
        ("/api/v1/reports/download-report", "METHOD_NOT_FOUND"),
    ],
)
def test_what_does_not_accept_work_is_not_offered(browser, path, reason):
    """Unknown services, reads and streams are NOT_FOUND with a reason."""
    answer = browser.post(path, json={})

    assert (answer.status_code, answer.json["reason"]) == (404, reason)


def test_an_unknown_operation_is_not_found(browser):
    """The gateway's own error comes through."""
    answer = browser.get("/api/v1/operations/reports/none")

    assert (answer.status_code, answer.json["reason"]) == (404, "OPERATION_NOT_FOUND")


def test_the_index_lists_the_methods(browser):
    """What can be called, and how, is found without documentation."""
    assert browser.get("/api/v1/").json == {
        "metrics": {"IngestSamples": "/api/v1/metrics/ingest-samples"},
        "notify": {
            "BatchSendNotifications": "/api/v1/notify/batch-send-notifications",
            "SendNotification": "/api/v1/notify/send-notification",
        },
        "reports": {"RenderReport": RENDER, "RunSchedule": "/api/v1/reports/run-schedule"},
        "openapi": "/api/v1/openapi.json",
    }


def test_the_callers_trace_goes_on(fakes, browser):
    """A traceparent of the HTTP request is continued in the call to the gateway."""
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"

    browser.post(RENDER, json={"title": "t"}, headers={"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"})

    assert fakes["reports"].metadata["traceparent"].split("-")[1] == trace_id


def test_an_unreachable_gateway_is_unavailable(fakes, browser):
    """A service that is down is 503, soon, with a time to come back."""
    fakes.run(fakes["reports"].stop())

    answer = browser.post(RENDER, json={"title": "t"})

    assert (answer.status_code, answer.json["reason"]) == (503, "GATEWAY_UNREACHABLE")
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_types_that_another_site_could_send_are_refused(fakes, browser, content_type):
    """A page elsewhere can post these without asking; JSON it can not."""
    answer = browser.post(RENDER, data='{"title": "t"}', content_type=content_type)

    assert answer.status_code == 415
    assert fakes["reports"].received == []


def test_a_page_of_another_site_is_refused(fakes, browser):
    """An Origin that is not ours is forbidden."""
    answer = browser.post(RENDER, json={"title": "t"}, headers={"Origin": "https://evil.example"})

    assert (answer.status_code, answer.mimetype) == (403, "application/problem+json")
    assert fakes["reports"].received == []


def test_a_wrong_http_method_is_a_problem_too(browser):
    """Errors of HTTP itself have the same form, and say what is allowed."""
    answer = browser.get(RENDER)

    assert (answer.status_code, answer.mimetype) == (405, "application/problem+json")
    assert set(answer.headers["Allow"].split(", ")) == {"OPTIONS", "POST"}


def test_a_body_beyond_all_limits_is_refused(browser):
    """A body that no gateway would take is not even read."""
    answer = browser.post(RENDER, data=b" " * (5 << 20), content_type="application/json")

    assert answer.status_code == 413


def test_operations_are_listed_by_filter_and_pages(fakes, browser, reports):
    """As the gateway lists them: the filter in its language, its own tokens."""
    wanted = [fakes.do(reports.accept, "reports.render_report", labels={"team": "sre"}) for _ in range(5)]
    fakes.do(reports.accept, "reports.render_report")
    query, seen = {"filter": "labels.team = sre", "page_size": "2"}, []

    while True:
        answer = browser.get("/api/v1/operations/reports", query_string=query).json
        seen += [each["name"] for each in answer["operations"]]
        if not answer.get("nextPageToken"):
            break
        query["page_token"] = answer["nextPageToken"]

    assert seen == [f"operations/reports/{each.id}" for each in reversed(wanted)]


def test_operations_of_all_services_are_one_list(fakes, browser):
    """Newest first across services, each once, page by page."""
    tasks = {"metrics": "metrics.apply_samples", "notify": "notify.deliver_mail", "reports": "reports.render_report"}
    accepted = [
        f"operations/{service}/{fakes.do(fakes[service].service.accept, task).id}"
        for _ in range(4)
        for service, task in tasks.items()
    ]
    query, seen = {"page_size": "5"}, []

    while True:
        answer = browser.get("/api/v1/operations", query_string=query).json
        seen += [each["name"] for each in answer["operations"]]
        if not answer.get("nextPageToken"):
            break
        query["page_token"] = answer["nextPageToken"]

    assert seen == list(reversed(accepted))


def test_a_list_that_would_have_a_gap_is_refused(fakes, browser):
    """A service that does not answer fails the list of all, and not that of another."""
    fakes.run(fakes["notify"].stop())

    assert browser.get("/api/v1/operations").status_code == 503
    assert browser.get("/api/v1/operations/reports").status_code == 200


@pytest.mark.parametrize(
    ("query", "field"),
    [("page_size=many", "page_size"), ("page_token=x", "page_token"), ("filter=colour=red", "filter")],
)
def test_a_bad_question_names_its_field(browser, query, field):
    """Size, token and filter, each by its name."""
    answer = browser.get(f"/api/v1/operations?{query}")

    assert answer.status_code == 400
    assert [each["field"] for each in answer.json["violations"]] == [field]
