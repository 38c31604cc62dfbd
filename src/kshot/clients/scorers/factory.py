"""Build a scorer from what an operator sets."""

from pathlib import Path
from typing import Literal, TypeAlias

from kshot.clients.scorers.base import Scorer
from kshot.clients.scorers.telemetry import UNTOLD, Telemetry
from kshot.errors import InvalidParameter

ScorerKind: TypeAlias = Literal["none", "vllm", "vllm_offline", "transformers"]

_PATHS = (".", "/", "~")
"""How the path of a folder may begin, and no name does."""


def build_scorer(
    kind: ScorerKind,
    url: str | None = None,
    model: str | None = None,
    api_key: str | None = None,
    *,
    tokenizer: str | None = None,
    cache_salt: str | None = None,
    priority: int | None = None,
    telemetry: Telemetry = UNTOLD,
) -> Scorer | None:
    """Return a scorer; heavy packages are imported only by the kinds that need them.

    Parameters
    ----------
    kind : str
        ``none``, ``vllm`` (an OpenAI-compatible server of vLLM's), ``vllm_offline`` (vLLM in this process) or
        ``transformers`` (the same, slower).
    url : str or None
        For ``vllm``: up to but without ``/completions``, such as ``http://127.0.0.1:8000/v1``.
    model : str or None
        For a model in this process its folder or name; for ``vllm`` a name that the server knows, None
        for its first.
    api_key : str or None
        For ``vllm``: sent as a bearer token.
    tokenizer : str or None
        For ``vllm``: the model's ``tokenizer.json`` or its folder, so that the server need not be asked for
        every text.
    cache_salt : str or None
        For ``vllm``: shares the server's prefix cache only with requests of the same salt.
    priority : int or None
        For ``vllm``: of the requests, lower ones go first.
    telemetry : Telemetry
        For ``vllm``: told what is asked and found.

    Raises
    ------
    InvalidParameter
        The kind is unknown, or what it needs is not given.
    MissingDependency
        A package is absent; the message holds the line that installs it.
    """
    if kind == "none":
        return None
    if kind == "vllm":
        if url is None:
            raise InvalidParameter("a scorer of kind vllm needs the URL of its server")
        from kshot.clients.scorers.tokenizer_file import FileTokenizer  # noqa: PLC0415
        from kshot.clients.scorers.vllm_http import VllmHttpScorer  # noqa: PLC0415

        return VllmHttpScorer(
            url,
            model=model,
            api_key=api_key,
            tokenizer=None if tokenizer is None else FileTokenizer(Path(tokenizer)),
            cache_salt=cache_salt,
            priority=priority,
            telemetry=telemetry,
        )
    if kind not in {"vllm_offline", "transformers"}:
        raise InvalidParameter(f"scorer is {kind!r}, allowed: none, vllm, vllm_offline, transformers")
    if model is None:
        raise InvalidParameter(f"a scorer of kind {kind} needs a model: a folder or a name")
    if model.startswith(_PATHS) and not Path(model).is_dir():
        raise InvalidParameter(f"the scorer's model {model!r} is no folder")
    if kind == "vllm_offline":
        from kshot.clients.scorers.vllm_offline import VllmOfflineScorer  # noqa: PLC0415

        return VllmOfflineScorer(model)
    from kshot.clients.scorers.transformers_scorer import TransformersScorer  # noqa: PLC0415

    return TransformersScorer(model)
