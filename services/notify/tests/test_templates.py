"""What is taken as a template, and what a rendering gives."""

import pytest
from chassis.errors import Violations
from notify_service import templates
from notify_service.templates import MAX_OUTPUT, MAX_SOURCE, MAX_SUBJECT, NotificationTemplate, RenderError
from notify_service.variables import from_struct
from waybill.notify.v1 import notify_pb2


def checked(template, **given):
    violations = Violations()
    reason = templates.check(template, "template", violations, **given)
    return reason, {violation.field: violation.description for violation in violations.found}


def failure(template, **variables):
    with pytest.raises(RenderError) as caught:
        NotificationTemplate(template).render(variables)
    return caught.value


def test_a_good_template_is_taken(a_template):
    assert checked(a_template(html="<p>{{ name }}</p>")) == ("", {})


def test_everything_that_is_wrong_with_a_template_is_told_at_once(a_template):
    """Id, subject, text and html, each with its line."""
    reason, found = checked(a_template("Not an id", subject=" ", text="a\n{% if %}", html="\n\n{{ x|attr('y') }}"))

    assert set(found) == {"template.template_id", "template.subject", "template.text", "template.html"}
    assert found["template.text"].startswith("line 2: ")
    assert found["template.html"].startswith("line 3: ")
    assert reason == "TEMPLATE_SANDBOX"


def test_a_template_that_is_not_to_be_stored_needs_no_id(a_template):
    assert checked(a_template(""), stored=False) == ("", {})


def test_a_template_has_a_largest_size(a_template):
    """The limit is named."""
    reason, found = checked(a_template(text="x" * (MAX_SOURCE + 1)))

    assert reason == "TEMPLATE_LIMIT_EXCEEDED"
    assert "65536" in found["template.text"]
    assert checked(a_template(text="x" * MAX_SOURCE)) == ("", {})


def test_the_output_has_a_largest_size(a_template):
    """However it comes about."""
    template = a_template(subject="s", text="{{ x }}" * 3)

    assert failure(template, x="x" * (MAX_OUTPUT // 2)).reason == "TEMPLATE_LIMIT_EXCEEDED"


def test_a_variable_that_is_not_given_is_an_error_with_its_line(a_template):
    """Nothing is rendered as an empty text by mistake."""
    error = failure(a_template(text="\nDear {{ recipient.nickname }}"), name="x", recipient={})

    assert (error.part, error.line, error.reason) == ("text", 2, "TEMPLATE_VARIABLE_UNDEFINED")
    assert "nickname" in str(error)


@pytest.mark.parametrize("subject", ["a\nb", "a\r\nBcc: x@y.z", "a\x00b", "a\u2028b", "", " ", "x" * (MAX_SUBJECT + 1)])
def test_a_subject_is_one_line(a_template, subject):
    """What is rendered is refused, wherever the line break comes from."""
    assert failure(a_template(subject="{{ s }}", text="t"), s=subject).part == "subject"


def test_a_subject_loses_the_space_around_it(a_template):
    assert NotificationTemplate(a_template(subject="\n Hello \n", text="t")).render({}).subject == "Hello"


def test_a_template_without_html_renders_none(a_template):
    rendered = NotificationTemplate(a_template(text="t")).render({"name": "Ada"})

    assert (rendered.subject, rendered.text, rendered.html) == ("Hello Ada", "t", "")


def test_the_recipient_is_a_variable_of_the_service():
    """A client's own variable of that name is refused."""
    violations = Violations()

    templates.check_variables({"recipient": 1, "name": 2}, violations)

    assert [violation.field for violation in violations.found] == ["variables.recipient"]


def test_whole_numbers_are_rendered_as_such():
    """A Struct knows floating point numbers alone: 3 is not written 3.0, and large ones stay exact."""
    request = notify_pb2.SendNotificationRequest()
    request.variables.update({"a": 3, "b": 2.5, "c": [1, {"d": None, "e": True}], "f": 1e300, "g": "x"})

    assert from_struct(request.variables) == {
        "a": 3,
        "b": 2.5,
        "c": [1, {"d": None, "e": True}],
        "f": 1e300,
        "g": "x",
    }
    assert isinstance(from_struct(request.variables)["a"], int)
