"""The prompt registry: versions that never change, labels that move, templates rendered in the sandbox."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from kshot.errors import FieldError, InvalidTemplate, PromptNotFound
from kshot.index.store import Store
from kshot.index.store.prompts import StoredPrompt, StoredVersion
from kshot.records import canonical_json
from kshot.schemas.prompts import (
    LabelMove,
    PromptContent,
    PromptCreate,
    PromptInfo,
    PromptList,
    PromptReference,
    PromptRender,
    PromptVersion,
    PromptVersionCreate,
    PromptVersionList,
    RenderedPrompt,
)
from kshot.schemas.selections import Message
from kshot.server.services.sandbox import SandboxedTemplate
from kshot.server.validation import refusal

DEFAULT_LABEL = "production"
_COMPILED = 1_024
_CONTENT = ("template", "system", "messages")


class CompiledPrompt:
    """The templates of one version, ready to be rendered.

    Raises
    ------
    InvalidTemplate
        On construction if a template does not compile; names it by its JSON pointer.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        turns = [("system", content["system"], "/system")] if content.get("system") else []
        if content.get("template") is not None:
            turns.append(("user", content["template"], "/template"))
        for index, message in enumerate(content.get("messages") or ()):
            turns.append((message["role"], message["content"], f"/messages/{index}/content"))
        self._turns = [(role, SandboxedTemplate(pointer, source)) for role, source, pointer in turns]
        self.variables = sorted({name for _, template in self._turns for name in template.variables})

    def render(self, variables: Mapping[str, Any]) -> list[Message]:
        """Put the turns together; `InvalidTemplate` names a variable that is missing."""
        missing = [name for name in self.variables if name not in variables]
        if missing:
            received = ", ".join(sorted(variables)) or "none"
            message = f"the prompt uses {', '.join(missing)}; received variables: {received}"
            raise InvalidTemplate(
                message, errors=[FieldError(f"/variables/{missing[0]}", message, "missing")]
            )
        return [
            Message.model_validate({"role": role, "content": template.render(variables)})
            for role, template in self._turns
        ]


@lru_cache(maxsize=_COMPILED)
def _compiled(content: str) -> CompiledPrompt:
    return CompiledPrompt(PromptContent.model_validate_json(content).model_dump(mode="json"))


def compiled_prompt(content: Mapping[str, Any]) -> CompiledPrompt:
    """Return the templates of a content, compiled once; `InvalidTemplate` if one does not compile."""
    return _compiled(canonical_json({name: content.get(name) for name in _CONTENT}))


class PromptService:
    """The routes' view of prompts, and what variants are rendered with."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def create(self, request: PromptCreate) -> PromptVersion:
        """Create a prompt and its version 1."""
        content, digest = _checked(request)
        stored = await asyncio.to_thread(
            self._store.create_prompt,
            request.name,
            content,
            digest,
            metadata=request.metadata,
            labels=request.labels,
        )
        return _version_info(stored)

    async def add_version(self, name: str, request: PromptVersionCreate) -> PromptVersion:
        """Add a version; one that says the same as the newest is not added again."""
        content, digest = _checked(request)
        stored, is_new = await asyncio.to_thread(
            self._store.add_prompt_version,
            name,
            content,
            digest,
            metadata=request.metadata,
            labels=request.labels,
        )
        return _version_info(stored).model_copy(update={"unchanged": not is_new})

    async def list(self, cursor: str | None, limit: int) -> PromptList:
        """Return one page of prompts, by name."""
        rows = await asyncio.to_thread(self._store.list_prompts, after=cursor, limit=limit + 1)
        page = rows[:limit]
        return PromptList(
            data=[_info(row) for row in page], next_cursor=page[-1].name if len(rows) > limit else None
        )

    async def get(self, name: str) -> PromptInfo:
        """Describe a prompt."""
        return _info(await asyncio.to_thread(self._store.get_prompt, name))

    async def versions(self, name: str, cursor: str | None, limit: int) -> PromptVersionList:
        """Return one page of versions, the newest first."""
        before = _number(cursor)
        rows = await asyncio.to_thread(self._store.list_prompt_versions, name, before=before, limit=limit + 1)
        page = rows[:limit]
        return PromptVersionList(
            data=[_version_info(row) for row in page],
            next_cursor=str(page[-1].version) if len(rows) > limit else None,
        )

    async def version(self, name: str, which: str) -> PromptVersion:
        """Return a version by number, by label, or the newest as ``latest``."""
        if which.isdecimal():
            return _version_info(await self._stored(name, version=int(which)))
        label = None if which == "latest" else which
        return _version_info(await self._stored(name, label=label))

    async def move_label(self, name: str, label: str, request: LabelMove) -> PromptVersion:
        """Let a label stand at a version."""
        return _version_info(
            await asyncio.to_thread(self._store.move_prompt_label, name, label, request.version)
        )

    async def remove_label(self, name: str, label: str) -> None:
        """Take a label away."""
        await asyncio.to_thread(self._store.remove_prompt_label, name, label)

    async def delete(self, name: str) -> None:
        """Remove a prompt with its versions."""
        await asyncio.to_thread(self._store.delete_prompt, name)

    async def render(self, name: str, request: PromptRender) -> RenderedPrompt:
        """Put a prompt together with the caller's variables."""
        reference = PromptReference(name=name, version=request.version, label=request.label)
        stored = await self.resolve(reference)
        messages = compiled_prompt(stored.content).render(request.variables)
        return RenderedPrompt(
            name=name,
            version=stored.version,
            messages=messages,
            text="\n\n".join(message.content for message in messages),
        )

    async def resolve(self, reference: PromptReference) -> StoredVersion:
        """Return the version that a reference means now.

        A reference without version and label means the label `production` where it is set, else the newest
        version.

        Raises
        ------
        PromptNotFound
            There is no such prompt, version or label.
        """
        if reference.version is not None or reference.label is not None:
            return await self._stored(reference.name, version=reference.version, label=reference.label)
        try:
            return await self._stored(reference.name, label=DEFAULT_LABEL)
        except PromptNotFound:
            return await self._stored(reference.name)

    async def _stored(
        self, name: str, *, version: int | None = None, label: str | None = None
    ) -> StoredVersion:
        return await asyncio.to_thread(self._store.get_prompt_version, name, version=version, label=label)


def _checked(request: PromptVersionCreate) -> tuple[dict[str, Any], str]:
    """Return the content to store and its hash; `InvalidTemplate` if a template does not compile."""
    content = {name: value for name, value in request.model_dump(mode="json").items() if name in _CONTENT}
    compiled_prompt(content)
    digest = hashlib.blake2b(canonical_json(content).encode(), digest_size=16).hexdigest()
    return content, digest


def _info(stored: StoredPrompt) -> PromptInfo:
    return PromptInfo(
        name=stored.name,
        latest_version=stored.latest_version,
        labels=dict(stored.labels),
        created_at=stored.created_at,
    )


def _version_info(stored: StoredVersion) -> PromptVersion:
    labels: Sequence[str] = stored.labels
    return PromptVersion(
        name=stored.name,
        version=stored.version,
        template=stored.content.get("template"),
        system=stored.content.get("system"),
        messages=stored.content.get("messages"),
        variables=compiled_prompt(stored.content).variables,
        labels=list(labels),
        metadata=dict(stored.metadata),
        created_at=stored.created_at,
    )


def _number(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not cursor.isdecimal():
        raise refusal([FieldError("/cursor", "is none that a listing gave", "invalid")])
    return int(cursor)
