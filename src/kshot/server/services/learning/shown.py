"""What a variant comes to: its prompt, put together with the caller's variables."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kshot.schemas.decisions import DecideRequest
from kshot.schemas.prompts import PromptReference
from kshot.schemas.selections import Message
from kshot.server.services.learning.definitions import Variant
from kshot.server.services.prompts import PromptService, compiled_prompt


class Shown(NamedTuple):
    """A variant's prompt: name and version where it is one of the registry, and its turns."""

    prompt: Mapping[str, Any] | None
    messages: Sequence[Message] | None


class VariantPrompts:
    """Renders variants."""

    def __init__(self, prompts: PromptService) -> None:
        self._prompts = prompts

    async def shown(self, variant: Variant, request: DecideRequest, *, version: int | None = None) -> Shown:
        """Put a variant's prompt together, if it has one and the request wants it.

        Parameters
        ----------
        variant : Variant
        request : DecideRequest
            Templates see its ``variables``, and its ``inputs`` unless one of those has that name.
        version : int, optional
            Of the registry's prompt, instead of the one that the variant's reference means now.

        Raises
        ------
        PromptNotFound
            The registry has no such prompt, version or label any more.
        InvalidTemplate
            A variable is missing, or rendering fails.
        """
        settings = variant.settings
        prompt: Mapping[str, Any] | None = None
        if settings.prompt is not None:
            reference = settings.prompt
            if version is not None:
                reference = PromptReference(name=reference.name, version=version)
            stored = await self._prompts.resolve(reference)
            content, prompt = stored.content, {"name": stored.name, "version": stored.version}
        elif settings.template is not None:
            content = {"template": settings.template, "system": settings.system}
        else:
            return Shown(None, None)
        if not request.render:
            return Shown(prompt, None)
        given = {} if request.inputs is None else {"inputs": request.inputs}
        return Shown(prompt, compiled_prompt(content).render({**given, **request.variables}))
