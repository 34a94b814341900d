"""Jinja2's sandbox, narrowed to what a notification needs, and bounded.

Jinja2's own sandbox keeps a template away from Python's internals; it does not bound what a
template computes. Here a template has no macros, includes or blocks, calls only the filters and
methods listed, and loop rounds, calls, operators, comparisons, literals and filters are charged to
a budget by what they see, so that no template runs for ever or fills the memory. Bounded is not
fast: a template that spends its whole budget on large values may take seconds.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

from jinja2 import StrictUndefined, Undefined, nodes, pass_eval_context
from jinja2.exceptions import TemplateRuntimeError
from jinja2.filters import do_join, make_attrgetter
from jinja2.nodes import EvalContext
from jinja2.runtime import Context, LoopContext, markup_join
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

#: Loop rounds, calls, and values that filters, comparisons and literals see, in one rendering of one part.
MAX_STEPS: Final = 50_000
#: Characters or items of any one value.
MAX_SIZE: Final = 200_000
#: Bits of a whole number.
MAX_BITS: Final = 4_096
MAX_PRECISION: Final = 20

_CHARACTERS_PER_STEP: Final = 256
_WIDE_FORMAT: Final = re.compile(r"\d{4}|%[^a-zA-Z%]*\*|\{[^{}]*\{")
# No source can write these names.
_ROUNDS: Final = "rounds of a loop"
_WEIGHED: Final = "weighed value"
_CONCATENATED: Final = "operands of ~"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STATEMENTS: Final = (nodes.Output, nodes.For, nodes.If, nodes.Assign, nodes.With)
FILTERS: Final = _words(
    "abs capitalize count d default dictsort e escape filesizeformat first float forceescape format groupby int items "
    "join last length list lower map max min reject rejectattr replace reverse round select selectattr sort string "
    "striptags title tojson trim truncate unique upper urlencode wordcount"
)
METHODS: Final[Mapping[type, frozenset[str]]] = {
    str: _words(
        "capitalize casefold count endswith find isalnum isalpha isdigit islower isspace istitle isupper lower lstrip "
        "removeprefix removesuffix rfind rsplit rstrip split splitlines startswith strip swapcase title upper"
    ),
    dict: frozenset({"get", "items", "keys", "values"}),
    list: frozenset({"count", "index"}),
    LoopContext: frozenset({"changed", "cycle"}),
}


class LimitExceeded(TemplateRuntimeError):
    """The template exceeds a limit."""


class Refusal(NamedTuple):
    """Something in a template's source that is not taken; `escape`: it reaches for Python's internals."""

    line: int
    description: str
    escape: bool = False


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment of one part of a template. Not for two threads at once: the budget is one rendering's."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def __init__(self, *, autoescape: bool) -> None:
        # Not optimized: compiling computes nothing.
        super().__init__(
            autoescape=autoescape,
            undefined=StrictUndefined,
            optimized=False,
            finalize=self.printed,
            keep_trailing_newline=True,
        )
        self.steps = MAX_STEPS
        self.globals = {"range": self.range}
        own = {"format": self.formatted, "join": self.joined, "string": self.text_of, "tojson": self.text_of}
        known = {**self.filters, **own}
        self.filters = {name: self._charged(name, known[name]) for name in FILTERS}
        self.filters |= {_ROUNDS: self.rounds, _WEIGHED: self.weighed, _CONCATENATED: self.concatenated}

    def bounded(self, source: str) -> nodes.Template:
        """The parsed source, with what Jinja2 does not let an environment intercept charged too.

        Raises jinja2.TemplateSyntaxError.
        """
        parsed: nodes.Template = _Bounds().visit(self.parse(source))
        return parsed

    def begin(self) -> None:
        """Give the next rendering its budget."""
        self.steps = MAX_STEPS

    def spend(self, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise LimitExceeded(f"the template takes more than {MAX_STEPS} steps: loop rounds, calls, values looked at")

    def rounds(self, items: Iterable[Any]) -> Iterator[Any]:
        """The items, each charged."""
        for item in items:
            self.spend(1)
            yield item

    def weighed(self, value: Any) -> Any:
        """The value, charged for all that it holds; what it holds twice counts twice."""
        waiting = [value]
        while waiting:
            held = waiting.pop()
            if isinstance(held, Undefined):
                continue
            self.spend(1 + (len(held) // _CHARACTERS_PER_STEP if isinstance(held, str) else 0))
            if isinstance(held, Mapping):
                waiting.extend(held)
                waiting.extend(held.values())
            elif isinstance(held, Collection) and not isinstance(held, str):
                waiting.extend(held)
        return value

    @staticmethod
    def range(*bounds: int) -> range:
        return range(*bounds)

    def concatenated(self, parts: Sequence[Any]) -> str:
        """The operator `~`."""
        texts = [self.printed(self.weighed(part)) for part in parts]
        self._check_size(sum(len(str(text)) for text in texts))
        return markup_join(texts)

    def formatted(self, text: str, *args: Any, **kwargs: Any) -> str:
        """The filter `format`: printf style, as in Jinja2."""
        self._check_format(text)
        return str(text) % (kwargs or args)

    @pass_eval_context
    def joined(self, eval_ctx: EvalContext, value: Any, d: str = "", attribute: str | int | None = None) -> str:
        """The filter `join`, as in Jinja2."""
        pick = make_attrgetter(self, attribute) if attribute is not None else lambda item: item
        texts = [self.printed(pick(item)) for item in value]
        self._check_size(sum(len(str(text)) + len(d) for text in texts))
        joined: str = do_join(eval_ctx, texts, d)
        return joined

    def printed(self, value: Any) -> Any:
        """What `{{ value }}` writes."""
        plain = isinstance(value, (str, int, float, Undefined)) or value is None
        return value if plain else self.text_of(value)

    def text_of(self, value: Any) -> str:
        """Text as it is, containers as JSON; refuses what has no text of its own, as methods."""
        if isinstance(value, (str, Undefined)):
            return str(value)
        pieces, size = [], 0
        for piece in json.JSONEncoder(ensure_ascii=False, default=_encodable).iterencode(_encodable(value)):
            size += len(piece)
            self._check_size(size)
            pieces.append(piece)
        return "".join(pieces)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if not super().is_safe_attribute(obj, attr, value):
            return False
        return not callable(value) or any(isinstance(obj, kind) and attr in names for kind, names in METHODS.items())

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            self._check_format(value.__self__)
        return wrapped

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805, PYI063 - as in Jinja2
        for value in (getattr(__obj, "__self__", None), *args, *kwargs.values()):
            __self.weighed(value)
        return __self.checked(ImmutableSandboxedEnvironment.call(__self, __context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        self.weighed(left)
        self.weighed(right)
        self._check_operands(operator, left, right)
        return self.checked(super().call_binop(context, operator, left, right))

    def checked(self, value: Any) -> Any:
        """The value, unless it is too large; an iterator comes back charged for each item."""
        if isinstance(value, Iterator):
            return self.rounds(value)
        if isinstance(value, (str, Collection)) and not isinstance(value, Undefined):
            self._check_size(len(value))
        return value

    def _charged(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        passed = 1 if hasattr(function, "jinja_pass_arg") else 0
        check = _GROWING.get(name)

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            self.spend(1)
            for argument in args[passed:]:
                self.weighed(argument)
            if check is not None:
                self._check_size(check(*args[passed:], **kwargs))
            return self.checked(function(*args, **kwargs))

        return run

    def _check_operands(self, operator: str, left: Any, right: Any) -> None:
        if operator == "%":
            if isinstance(left, str):
                self._check_format(left)
        elif operator == "**":
            _check_bits(_bits(left) * abs(right) if isinstance(right, int) else 0)
        elif operator == "*":
            _check_bits(_bits(left) + _bits(right))
            self._check_size(max(_size(left) * _count(right), _size(right) * _count(left)))
        else:
            self._check_size(_size(left) + _size(right))

    def _check_size(self, size: int) -> None:
        if size > MAX_SIZE:
            raise LimitExceeded(f"the template makes a value of more than {MAX_SIZE} characters or items")

    def _check_format(self, text: str) -> None:
        if _WIDE_FORMAT.search(text):
            raise LimitExceeded("a width or precision has at most three digits, written in the format itself")


class _Bounds(NodeTransformer):
    """Sends what Jinja2 computes by itself through filters that charge it."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _through(_ROUNDS, cast("nodes.Expr", node.iter))
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _through(_WEIGHED, node.expr)
        return node

    def visit_Operand(self, node: nodes.Operand) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _through(_WEIGHED, node.expr)
        return node

    def visit_Test(self, node: nodes.Test) -> nodes.Node:
        self.generic_visit(node)
        node.node = _through(_WEIGHED, node.node)
        node.args = [_through(_WEIGHED, argument) for argument in node.args]
        return node

    def visit_List(self, node: nodes.List) -> nodes.Node:
        self.generic_visit(node)
        return _through(_WEIGHED, node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        return _through(_WEIGHED, node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _through(_WEIGHED, node) if node.ctx == "load" else node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        # A slice is a copy.
        if isinstance(node.arg, nodes.Slice):
            node.node = _through(_WEIGHED, node.node)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _through(_CONCATENATED, nodes.List(node.nodes, lineno=node.lineno))


def _through(name: str, value: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(value, name, [], [], None, None, lineno=value.lineno)


def refusals(parsed: nodes.Template, environment: Sandbox) -> Iterator[Refusal]:
    """What the source of a template may not contain, in the order of its lines."""
    found = (refusal for node in parsed.find_all(nodes.Node) for refusal in _refusals_of(node, environment))
    return iter(sorted(found))


def _refusals_of(node: nodes.Node, environment: Sandbox) -> Iterator[Refusal]:
    name, line = type(node).__name__, node.lineno or 0
    if isinstance(node, nodes.Stmt) and not isinstance(node, STATEMENTS):
        yield Refusal(line, f"{name} statements are not available here")
    elif isinstance(node, nodes.For) and node.recursive:
        yield Refusal(line, "recursive loops are not available here")
    elif isinstance(node, nodes.NSRef):
        yield Refusal(line, "namespaces are not available here")
    elif isinstance(node, nodes.Filter) and node.name not in environment.filters:
        yield Refusal(line, f"there is no filter {node.name!r} here", escape=node.name == "attr")
    elif isinstance(node, nodes.Test) and node.name not in environment.tests:
        yield Refusal(line, f"there is no test {node.name!r}")
    elif (reached := _attribute(node)).startswith("__"):
        yield Refusal(line, f"{reached!r} reaches out of the sandbox", escape=True)


def _attribute(node: nodes.Node) -> str:
    if isinstance(node, nodes.Getattr):
        return node.attr
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        return str(node.arg.value)
    return ""


def _encodable(value: Any) -> Any:
    if isinstance(value, Undefined):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (Collection, Iterator)) and not isinstance(value, str):
        return list(value)
    if isinstance(value, (str, int, float)) or value is None:
        return value
    raise TypeError(f"a {type(value).__name__} cannot be printed")


def _size(value: Any) -> int:
    return len(value) if isinstance(value, Collection) and not isinstance(value, Undefined) else 0


def _count(value: Any) -> int:
    return max(value, 0) if isinstance(value, int) else 0


def _bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 0


def _check_bits(bits: int) -> None:
    if bits > MAX_BITS:
        raise LimitExceeded(f"the template makes a number of more than {MAX_BITS} bits")


def _replaced_size(value: Any, old: str, new: str, count: int | None = None) -> int:
    del count
    return len(str(value)) + str(value).count(str(old)) * len(str(new))


def _round_precision(value: Any, precision: int = 0, method: str = "common") -> int:
    del value, method
    if abs(precision) > MAX_PRECISION:
        raise LimitExceeded(f"a precision is at most {MAX_PRECISION}")
    return 0


#: Filters whose result may be much larger than what they are given: its size, told beforehand.
_GROWING: Final[Mapping[str, Callable[..., int]]] = {
    "replace": _replaced_size,
    "round": _round_precision,
}
