"""Templates of a pool, compiled: the text to embed, and the parts of the prompt.

Templates come from outside. They run in Jinja2's immutable sandbox, without loops inside loops, with ranges,
repetition and output bounded, so that a template can neither reach the process nor hold it for long.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from jinja2 import StrictUndefined, Template, TemplateError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kshot.errors import FieldError, InvalidTemplate
from kshot.formatting import QueryTurn, Turn, content_text
from kshot.records import Content
from kshot.schemas.pools import PoolSettings, PromptTemplate

MAX_OUTPUT_CHARS = 1_000_000
_MAX_RANGE = 1_000
_MAX_REPEATED = 10_000


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops: ClassVar[frozenset[str]] = frozenset({"*", "**", "%"})  # type: ignore[misc]  # narrowed

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Refuse what makes much out of little: powers, long repetitions, wide paddings."""
        if operator == "**" or not all(isinstance(side, int | float) for side in (left, right)):
            raise InvalidTemplate(f"templates may not use {operator!r} on anything but numbers")
        return super().call_binop(context, operator, left, right)


def _bounded_range(*bounds: int) -> range:
    numbers = range(*bounds)
    if len(numbers) > _MAX_RANGE:
        raise InvalidTemplate(f"range has {len(numbers)} steps, allowed {_MAX_RANGE}")
    return numbers


def _environment() -> _Environment:
    environment = _Environment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)
    environment.globals = {"range": _bounded_range}
    allowed = (
        "abs capitalize count default first float int items join last length list lower map max min replace reject"
        " rejectattr reverse round select selectattr sort string sum title tojson trim truncate unique upper"
    ).split()
    environment.filters = {name: environment.filters[name] for name in allowed}
    return environment


_ENVIRONMENT = _environment()


def _compile(pointer: str, source: str) -> Template:
    try:
        tree = _ENVIRONMENT.parse(source)
        if any(next(loop.find_all(nodes.For), None) for loop in tree.find_all(nodes.For)):
            raise InvalidTemplate("a loop inside a loop is not allowed")
        for forbidden in (
            nodes.Macro,
            nodes.CallBlock,
            nodes.Include,
            nodes.Import,
            nodes.FromImport,
            nodes.Extends,
        ):
            if next(tree.find_all(forbidden), None) is not None:
                raise InvalidTemplate(f"{forbidden.__name__.lower()} is not allowed")
        return _ENVIRONMENT.from_string(tree)
    except (TemplateError, InvalidTemplate) as error:
        message = f"{pointer}: {error}"
        raise InvalidTemplate(message, errors=[FieldError(pointer, str(error))]) from None


class _Compiled:
    """One template, and where it stands in the pool's settings."""

    def __init__(self, pointer: str, source: str) -> None:
        self._pointer = pointer
        self._template = _compile(pointer, source)

    def render(self, values: Mapping[str, Any]) -> str:
        """Render; a name that is not there is an error that says so."""
        pieces: list[str] = []
        size = 0
        try:
            for piece in self._template.generate(values):
                pieces.append(piece)
                size += len(piece)
                if size > MAX_OUTPUT_CHARS:
                    raise InvalidTemplate(f"the rendered text is longer than {MAX_OUTPUT_CHARS} characters")
        except InvalidTemplate as error:
            raise InvalidTemplate(
                f"{self._pointer}: {error}", errors=[FieldError(self._pointer, str(error))]
            ) from None
        except Exception as error:  # noqa: BLE001  (a template may raise anything that its operators raise)
            reason = f"{type(error).__name__}: {error}"
            raise InvalidTemplate(
                f"{self._pointer} cannot be rendered: {reason}", errors=[FieldError(self._pointer, reason)]
            ) from None
        return "".join(pieces)


def _optional(pointer: str, source: str | None) -> _Compiled | None:
    return None if source is None else _Compiled(pointer, source)


class PoolTemplates:
    """The compiled templates of one pool.

    Raises
    ------
    InvalidTemplate
        On construction if a template does not compile; on rendering if it names something that is not there.
    """

    def __init__(self, settings: PoolSettings) -> None:
        prompt = settings.prompt
        self.is_default = prompt == PromptTemplate()
        self.separator = prompt.separator
        self._embed = _optional("/settings/embed_template", settings.embed_template)
        self._system = _optional("/settings/prompt/system", prompt.system)
        self._input = _optional("/settings/prompt/input", prompt.input)
        self._output = _optional("/settings/prompt/output", prompt.output)
        self._demonstration = _Compiled("/settings/prompt/demonstration", prompt.demonstration)
        self._query = _Compiled("/settings/prompt/query", prompt.query)

    def embed_text(self, inputs: Content) -> str:
        """Return the text that stands for these inputs in the encoder."""
        return content_text(inputs) if self._embed is None else self._embed.render({"inputs": inputs})

    def turn(self, inputs: Content, outputs: Content | None, metadata: Mapping[str, Any]) -> Turn:
        """Render one demonstration."""
        if self.is_default:
            return Turn.of(inputs, outputs)
        values = {"inputs": inputs, "outputs": outputs, "metadata": metadata}
        shown = content_text(inputs) if self._input is None else self._input.render(values)
        answer = content_text(outputs) if self._output is None else self._output.render(values)
        return Turn(shown, answer, self._demonstration.render({**values, "input": shown, "output": answer}))

    def query(self, inputs: Content) -> QueryTurn:
        """Render the query."""
        if self.is_default:
            return QueryTurn.of(inputs)
        values = {"inputs": inputs, "metadata": {}}
        shown = content_text(inputs) if self._input is None else self._input.render(values)
        return QueryTurn(shown, self._query.render({**values, "input": shown}))

    def system(self, pool: str, labels: Sequence[str]) -> str | None:
        """Render the instructions that stand first."""
        return None if self._system is None else self._system.render({"pool": pool, "labels": list(labels)})
