"""Templates of a pool, compiled: the text to embed, and the parts of the prompt."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kshot.formatting import QueryTurn, Turn, content_text
from kshot.records import Content
from kshot.schemas.pools import PoolSettings, PromptTemplate
from kshot.server.services.sandbox import SandboxedTemplate

_EXAMPLE = ("inputs", "outputs", "metadata")


class PoolTemplates:
    """The compiled templates of one pool.

    Raises
    ------
    InvalidTemplate
        On construction if a template does not compile or uses an unknown variable; on rendering if it names
        something that is not there.
    """

    def __init__(self, settings: PoolSettings) -> None:
        prompt = settings.prompt
        self.is_default = prompt == PromptTemplate()
        self.separator = prompt.separator
        self._embed = _optional("/settings/embed_template", settings.embed_template, ["inputs"])
        self._system = _optional("/settings/prompt/system", prompt.system, ["labels", "pool"])
        self._input = _optional("/settings/prompt/input", prompt.input, _EXAMPLE)
        self._output = _optional("/settings/prompt/output", prompt.output, _EXAMPLE)
        self._demonstration = SandboxedTemplate(
            "/settings/prompt/demonstration", prompt.demonstration, [*_EXAMPLE, "input", "output"]
        )
        self._query = SandboxedTemplate("/settings/prompt/query", prompt.query, ["inputs", "input"])

    def embed_text(self, inputs: Content) -> str:
        """Return the text that stands for these inputs in the encoder."""
        return content_text(inputs) if self._embed is None else self._embed.render({"inputs": inputs})

    def turn(self, inputs: Content, outputs: Content | None, metadata: Mapping[str, Any]) -> Turn:
        """Render one demonstration."""
        if self.is_default:
            return Turn.of(inputs, outputs)
        values = {"inputs": inputs, "outputs": outputs, "metadata": metadata}
        shown = self._shown(values)
        answer = content_text(outputs) if self._output is None else self._output.render(values)
        return Turn(shown, answer, self._demonstration.render({**values, "input": shown, "output": answer}))

    def query(self, inputs: Content) -> QueryTurn:
        """Render the query: an example without outputs and metadata."""
        if self.is_default:
            return QueryTurn.of(inputs)
        shown = self._shown({"inputs": inputs, "outputs": None, "metadata": {}})
        return QueryTurn(shown, self._query.render({"inputs": inputs, "input": shown}))

    def system(self, pool: str, labels: Sequence[str]) -> str | None:
        """Render the instructions that stand first."""
        return None if self._system is None else self._system.render({"pool": pool, "labels": list(labels)})

    def _shown(self, values: Mapping[str, Any]) -> str:
        return content_text(values["inputs"]) if self._input is None else self._input.render(values)


def _optional(pointer: str, source: str | None, names: Iterable[str]) -> SandboxedTemplate | None:
    return None if source is None else SandboxedTemplate(pointer, source, names)
