"""Nothing that a template says reaches Python, runs for ever, or fills the memory."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from notify_service.sandbox import FILTERS, METHODS
from notify_service.templates import NotificationTemplate, RenderError
from waybill.notify.v1 import notify_pb2

VARIABLES = {
    "name": "Ada",
    "count": 3,
    "items": [3, 1, 2],
    "people": [{"name": "Ada", "age": 36}, {"name": "Bob", "age": 41}],
    "data": {"alert": {"value": 0.987, "labels": {"host": "a"}}},
}

ESCAPES = [
    "{{ ''.__class__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__'] }}",
    "{{ ''['__cl' ~ 'ass__'] }}",
    "{{ ''|attr('__class__') }}",
    "{{ [name]|map(attribute='__class__')|list }}",
    "{{ people|groupby('__class__') }}",
    "{{ people|sort(attribute='__class__') }}",
    "{{ items|join(attribute='__class__') }}",
    "{{ range.__globals__ }}",
    "{{ range.__self__ }}",
    "{{ range['__self__'] }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context }}",
    "{% for item in items %}{{ loop.__class__ }}{% endfor %}",
    "{% for item in items %}{{ loop._iterator.gi_frame }}{% endfor %}",
    "{{ '{0.__class__}'.format(name) }}",
    "{{ '{0[__class__]}'.format(name) }}",
    "{{ '{a.__class__.__mro__}'.format_map({'a': 1}) }}",
    "{{ ('{0.__cla' ~ 'ss__}').format(name) }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ lipsum.__globals__['os'] }}",
    "{{ (items|map('string')).gi_frame }}",
    "{{ name.encode('utf-8') }}",
    "{{ data.clear() }}",
    "{{ items.append(4) }}",
    "{{ data.update({'a': 1}) }}",
    "{{ name.join(items) }}",
    "{{ name.ljust(9) }}",
]


def rendered(source, part="text", **variables):
    template = notify_pb2.Template(subject="s", text="t")
    setattr(template, part, source)
    return getattr(NotificationTemplate(template).render({**VARIABLES, **variables}), part)


def refused(source, **variables):
    with pytest.raises(RenderError) as caught:
        rendered(source, **variables)
    return caught.value.reason


@pytest.mark.parametrize("source", ESCAPES)
def test_an_attempt_to_leave_the_sandbox_is_refused_as_one(source):
    """The reason is TEMPLATE_SANDBOX, whether the source says it outright or computes it."""
    assert refused(source) == "TEMPLATE_SANDBOX"


DOUBLED = "{% set a = [1, 1] %}" + "{% set a = [a, a] %}" * 60


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(100000000) %}{% endfor %}",
        "{% for a in range(1000) %}{% for b in range(1000) %}{% endfor %}{% endfor %}",
        "{% for a in big %}{% for b in big %}{% for c in big %}{% endfor %}{% endfor %}{% endfor %}",
        "{% for a in big %}{% if a in big %}{% endif %}{% endfor %}",
        "{% for a in big %}{{ big|length }}{% endfor %}",
        "{% for a in big %}{% if big == other %}{% endif %}{% endfor %}",
        "{% for a in big %}{% if a is in big %}{% endif %}{% endfor %}",
        "{% set a = 'x' * 150000 %}{% for b in range(20000) %}{{ a.count('y') }}{% endfor %}",
        "{% set a = 'x' * 150000 %}{% for b in range(20000) %}{% set c = a ~ b %}{% endfor %}",
        "{% set a = 'x' * 150000 %}{% for b in range(20000) %}{% set c = a + 'y' %}{% endfor %}",
        "{% for a in range(20000) %}{% set b = big[1:] %}{% endfor %}",
        "{{ range(1000000)|list|length }}",
        "{{ 'a' * 1000000000 }}",
        "{{ 1000000000 * 'a' }}",
        "{{ [1] * 1000000000 }}",
        "{{ 10 ** 100000 }}",
        "{% set a = 10 ** 1000 %}" + "{% set a = a * a %}" * 20,
        "{% set a = 'x' * 100000 %}" + "{% set a = a ~ a %}" * 30,
        "{% set a = 'x' * 100000 %}" + "{% set a = a + a %}" * 30,
        "{{ '%1000000000d' % 1 }}",
        "{{ '%*d' % (1000000000, 1) }}",
        "{{ '%1000000000d'|format(1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:{}}'.format(1, 1000000000) }}",
        "{{ ('x' * 1000)|replace('x', 'y' * 100000) }}",
        "{{ ['x' * 100000] * 1000 }}",
        "{{ (['x' * 100000] * 1000)|join }}",
        "{{ items|join('x' * 150000) }}",
        "{{ 3|round(1000000000, 'ceil') }}",
        "{% set a = '\"' * 100000 %}" + "{% set a = a|urlencode %}" * 30,
        DOUBLED,
        DOUBLED + "{{ a }}",
        DOUBLED + DOUBLED.replace("a", "b") + "{{ a == b }}",
        "{% set a = (1, 1) %}" + "{% set a = (a, a) %}" * 60 + "{{ {a: 1} }}",
        "{% set a = [1] %}" + "{% set a = [a] * 2 %}" * 60,
        "{% set a = {'a': 1} %}" + "{% set a = {'a': a, 'b': a} %}" * 60,
        "x{% for a in range(40000) %}yyyyyyyyyyyyy{% endfor %}",
    ],
)
def test_a_template_that_takes_too_much_is_ended(source):
    """Time and memory are bounded; the reason is TEMPLATE_LIMIT_EXCEEDED."""
    assert refused(source, big=list(range(5_000)), other=list(range(5_000))) == "TEMPLATE_LIMIT_EXCEEDED"


@pytest.mark.parametrize(
    "source",
    [
        "{% macro m() %}{% endmacro %}",
        "{% call m() %}{% endcall %}",
        "{% include 'other' %}",
        "{% import 'other' as other %}",
        "{% from 'other' import x %}",
        "{% extends 'other' %}",
        "{% block b %}{% endblock %}",
        "{% filter upper %}x{% endfilter %}",
        "{% set a %}x{% endset %}",
        "{% set a.b = 1 %}",
        "{% for a in items recursive %}{% endfor %}",
        "{% autoescape false %}{% endautoescape %}",
        "{{ name|safe }}",
        "{{ name|no_such_filter }}",
        "{{ name is no_such_test }}",
        "{{ name",
        "{% if name %}",
        "{{ " + "(" * 3_000 + "1" + ")" * 3_000 + " }}",
        "{% if name %}" * 3_000 + "{% endif %}" * 3_000,
    ],
)
def test_what_a_notification_does_not_need_is_not_there(source):
    """Refused when the template is given, not first when it is rendered."""
    assert refused(source) == "TEMPLATE_INVALID"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ name }} {{ count }} {{ data.alert.value|round(2) }}", "Ada 3 0.99"),
        ("{{ '%.1f' % data.alert.value }} {{ '%.1f%%'|format(98.7) }} {{ '{:.2f}'.format(1.005) }}", "1.0 98.7% 1.00"),
        ("{% for p in people %}{{ loop.index }} {{ p.name }}{{ ', ' if not loop.last }}{% endfor %}", "1 Ada, 2 Bob"),
        ("{{ people|map(attribute='name')|join(', ') }}", "Ada, Bob"),
        ("{{ people|join(' & ', attribute='name') }}", "Ada & Bob"),
        ("{{ people|sort(attribute='age', reverse=true)|map(attribute='name')|first }}", "Bob"),
        ("{% for k, v in data.alert.labels.items() %}{{ k }}={{ v }}{% endfor %}", "host=a"),
        ("{{ data.alert.labels }} {{ items }} {{ (1, 2) }}", '{"host": "a"} [3, 1, 2] [1, 2]'),
        ("{{ data|tojson }}", '{"alert": {"value": 0.987, "labels": {"host": "a"}}}'),
        ("{{ missing|default('none') }} {{ missing is defined }}", "none False"),
        ("{% if count > 2 and 1 in items %}yes{% else %}no{% endif %}", "yes"),
        ("{% set a, b = 1, 2 %}{% with c = a + b %}{{ c * 2 }}{% endwith %}", "6"),
        ("{{ name ~ '!' ~ count }} {{ name.upper() }} {{ name|lower }} {{ name[0] }}", "Ada!3 ADA ada A"),
        ("{% for a in range(3) %}{{ loop.cycle('x', 'y') }}{% endfor %}", "xyx"),
        ("{% raw %}{{ name }}{% endraw %}{# nothing #}", "{{ name }}"),
        ("{{ items[1:] }} {{ name[:2] }} {{ data['alert']['labels'].host }}", "[1, 2] Ad a"),
        ("{{ items|map('string')|list }}", '["3", "1", "2"]'),
    ],
)
def test_what_notifications_are_made_of_works(source, text):
    """The bounds take nothing away from ordinary templates."""
    assert rendered(source) == text


def test_html_is_escaped_and_text_is_not():
    """Values cannot become markup, by no operator or filter."""
    source = "{{ x }} {{ x ~ '<' }} {{ [x]|join('>') }} {{ [x] }} {{ x|replace('i', '<') }} {{ '%s'|format(x) }}"

    assert "<" not in rendered(source, "html", x="<i>")
    assert rendered("{{ x }}", x="<i>") == "<i>"


def test_the_budget_is_that_of_one_rendering():
    """A template rendered for many recipients is charged for each anew."""
    template = NotificationTemplate(notify_pb2.Template(subject="s", text="{% for a in range(30000) %}{% endfor %}"))

    for _ in range(3):
        assert template.render({}).subject == "s"


OUTCOMES = {
    "rendered",
    *("TEMPLATE_INVALID", "TEMPLATE_SANDBOX", "TEMPLATE_VARIABLE_UNDEFINED"),
    *("TEMPLATE_LIMIT_EXCEEDED", "TEMPLATE_RENDER_FAILED"),
}


def outcome(source, part):
    try:
        rendered(source, part)
    except RenderError as error:
        return error.reason
    return "rendered"


FRAGMENTS = [
    *("name", "items", "people", "data", "count", "loop", "self", "range(9)"),
    *("'x'", "7", "none", "[items]", "{'a': 1}"),
    *("{{", "}}", "{%", "%}", "{#", "for", "in", "if", "else", "endfor", "endif", "set", "=", "with", "endwith"),
    *("|", "~", "+", "*", "**", "%", "(", ")", "[", "]", ".", ",", "==", "is", "not", "\n", "__class__", "_", "text"),
    *sorted(FILTERS),
    *sorted(METHODS[str]),
]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=14), st.sampled_from(["text", "html", "subject"]))
def test_any_source_renders_or_is_refused_with_a_reason(fragments, part):
    """No template makes the service fail in another way."""
    assert outcome(" ".join(fragments), part) in OUTCOMES


OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "<", "in", "and", "or"]


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_expression_renders_or_is_refused_with_a_reason(data):
    """As above, for sources that parse."""
    atoms = st.sampled_from(["name", "items", "people", "data", "count", "2", "'a<b'", "none", "missing", "[1, name]"])

    def grow(inner):
        filters = st.sampled_from(sorted(FILTERS))
        return st.one_of(
            st.tuples(inner, filters).map("({0[0]})|{0[1]}".format),
            st.tuples(inner, filters, inner).map("({0[0]})|{0[1]}({0[2]})".format),
            st.tuples(inner, st.sampled_from(OPERATORS), inner).map("({0[0]} {0[1]} {0[2]})".format),
            st.tuples(inner, inner).map("({0[0]})[{0[1]}]".format),
        )

    source = data.draw(st.recursive(atoms, grow, max_leaves=6))
    assert outcome("{{ " + source + " }}", data.draw(st.sampled_from(["text", "html"]))) in OUTCOMES


def test_a_filter_argument_that_jinja_asserts_is_refused_with_a_reason():
    """`truncate(2)` leaves no room for its dots: an error of the template, not of the service."""
    with pytest.raises(RenderError):
        rendered("{{ 'a long text'|truncate(2) }}")
