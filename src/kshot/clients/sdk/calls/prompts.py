"""Calls about prompts."""

from collections.abc import Iterable, Mapping
from typing import Any

from kshot.clients.sdk.calls.base import Call, Pages, encode, listed, listing, path_of, present, reader
from kshot.schemas.prompts import (
    PromptInfo,
    PromptList,
    PromptVersion,
    PromptVersionList,
    RenderedPrompt,
)


def _content(
    template: str | None,
    system: str | None,
    messages: Iterable[Mapping[str, str]] | None,
    labels: Iterable[str],
    metadata: Mapping[str, Any] | None,
) -> dict[str, Any]:
    turns = None if messages is None else [dict(message) for message in messages]
    return present(template=template, system=system, messages=turns, labels=listed(labels), metadata=metadata)


def create_prompt(
    name: str,
    template: str | None = None,
    *,
    system: str | None = None,
    messages: Iterable[Mapping[str, str]] | None = None,
    labels: Iterable[str] = (),
    metadata: Mapping[str, Any] | None = None,
) -> Call[PromptVersion]:
    """Keep a prompt; this is its version 1.

    Parameters
    ----------
    name : str
    template : str, optional
        A Jinja2 template of the user's turn; give this or ``messages``.
    system : str, optional
        A template of the system prompt.
    messages : iterable of dict, optional
        Turns, each with ``role`` and ``content``.
    labels : iterable of str
        Such as ``["production"]``.
    metadata : dict, optional

    Raises
    ------
    PromptExists
    InvalidTemplate
        ``errors`` names the template and what is wrong with it.
    """
    body = {"name": name, **_content(template, system, messages, labels, metadata)}
    return Call(
        method="POST",
        path=path_of("prompts"),
        body=encode(body),
        creates=True,
        read=reader(PromptVersion),
    )


def add_prompt_version(
    name: str,
    template: str | None = None,
    *,
    system: str | None = None,
    messages: Iterable[Mapping[str, str]] | None = None,
    labels: Iterable[str] = (),
    metadata: Mapping[str, Any] | None = None,
) -> Call[PromptVersion]:
    """Add a version, which never changes; one that says the same as the newest is not added again.

    Parameters are those of ``create_prompt``; ``labels`` move to this version.

    Raises
    ------
    PromptNotFound, InvalidTemplate
    """
    return Call(
        method="POST",
        path=path_of("prompts", name, "versions"),
        body=encode(_content(template, system, messages, labels, metadata)),
        creates=True,
        read=reader(PromptVersion),
    )


def get_prompt(name: str, version: int | str = "latest") -> Call[PromptVersion]:
    """Return a version of a prompt, by number, by label or the newest.

    Raises
    ------
    PromptNotFound
    """
    return Call(
        method="GET", path=path_of("prompts", name, "versions", str(version)), read=reader(PromptVersion)
    )


def list_prompts() -> Pages[PromptInfo]:
    """Iterate over all prompts, by name."""
    return listing(PromptList, path_of("prompts"))


def list_prompt_versions(name: str) -> Pages[PromptVersion]:
    """Iterate over the versions of a prompt, the newest first; `PromptNotFound` if there is none."""
    return listing(PromptVersionList, path_of("prompts", name, "versions"))


def label_prompt(name: str, label: str, version: int) -> Call[PromptVersion]:
    """Let a label such as ``production`` stand at a version, for everybody from now on.

    Raises
    ------
    PromptNotFound
        There is no such prompt or version.
    """
    return Call(
        method="PUT",
        path=path_of("prompts", name, "labels", label),
        body=encode({"version": version}),
        read=reader(PromptVersion),
    )


def delete_prompt(name: str) -> Call[None]:
    """Delete a prompt with all its versions; `PromptNotFound` if there is none."""
    return Call(method="DELETE", path=path_of("prompts", name), read=lambda _: None)


def render_prompt(
    name: str,
    variables: Mapping[str, Any] | None = None,
    *,
    version: int | None = None,
    label: str | None = None,
) -> Call[RenderedPrompt]:
    """Put a prompt together.

    Parameters
    ----------
    name : str
    variables : dict, optional
        What the templates use.
    version : int, optional
    label : str, optional
        Default: ``production`` where it is set, else the newest version.

    Raises
    ------
    PromptNotFound
    InvalidTemplate
        A variable is missing; the message says which.
    """
    return Call(
        method="POST",
        path=path_of("prompts", name, "render"),
        body=encode(present(version=version, label=label, variables=dict(variables or {}))),
        read=reader(RenderedPrompt),
    )
