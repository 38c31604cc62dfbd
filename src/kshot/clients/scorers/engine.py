"""A vLLM engine in this process, asked in the words of vLLM's HTTP interface."""

import asyncio
import gc
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from jinja2 import TemplateError

from kshot.clients.embedders.model_files import model_digest
from kshot.clients.scorers.backend import COMPLETIONS
from kshot.clients.scorers.endpoint import NotAnswered, Rejected
from kshot.clients.scorers.engine_wire import choice, is_bare, sampling_arguments
from kshot.errors import KshotError, ScorerUnavailable

P = ParamSpec("P")
T = TypeVar("T")
_REASON_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model that is ready.

    Attributes
    ----------
    llm : vllm.LLM
    sampling : callable
        ``vllm.SamplingParams``.
    root : str
        What the scores depend on besides the name: files, revision, numeric type.
    deaths : tuple of exception types
        What the engine raises when it is no more.
    refusals : tuple of exception types
        What it raises where it does not accept a request.
    """

    llm: Any
    sampling: Callable[..., Any]
    root: str
    deaths: tuple[type[Exception], ...] = (RuntimeError,)
    refusals: tuple[type[Exception], ...] = (ValueError, TypeError, OverflowError)


class Engine:
    """A `Backend` over ``vllm.LLM``, which blocks: one worker thread runs it, and the event loop never does.

    The model is loaded when it is first needed. An engine that died is lost as a server would be; the next
    request loads the model again.

    Parameters
    ----------
    name : str
        Of the model, for people.
    load : callable
        Loads it; called in the worker thread.
    """

    kind = "vllm"

    def __init__(self, name: str, load: Callable[[], Loaded]) -> None:
        self._name = name
        self._load = load
        self._loaded: Loaded | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="kshot-vllm")
        self._closed = False
        self.disconnections = 0
        """How often the engine died."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name!r})"

    async def get(self, path: str) -> Any:
        """Return the one model that there is; ``path`` is ``/v1/models``."""
        assert path == "/v1/models", path
        return await self._run(self._models)

    async def post(self, path: str, body: Mapping[str, Any], **_load: int) -> Any:
        """Return the answer to ``/v1/completions``, ``/tokenize`` or ``/detokenize``.

        Requests are answered one after the other. How much they ask for is no matter: the engine itself
        divides its work so that it fits.

        Raises
        ------
        NotAnswered
            The engine died.
        Rejected
            It does not accept the request.
        ScorerUnavailable
            The model cannot be loaded, or this is closed.
        """
        answers = {COMPLETIONS: self._complete, "/tokenize": _tokenize, "/detokenize": _detokenize}
        if path not in answers:
            raise Rejected(404)
        return await self._run(self._answered, answers[path], body)

    async def cache_block_tokens(self) -> int | None:
        """Return what the engine's configuration says."""
        return await self._run(self._block_tokens)

    async def close(self) -> None:
        """End the engine, after what is under way; a second call does nothing."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._worker, self._drop)
            self._worker.shutdown(wait=False)

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._closed:
            raise ScorerUnavailable("the scorer is closed")
        call = partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._worker, call)

    def _ready(self) -> Loaded:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def _drop(self) -> None:
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            core = getattr(loaded.llm.llm_engine, "engine_core", None)
            if core is not None:
                core.shutdown()
            del loaded, core
            gc.collect()  # its parts refer to each other

    def _models(self) -> Any:
        loaded = self._ready()
        longest = int(loaded.llm.llm_engine.model_config.max_model_len)
        return {"data": [{"id": self._name, "root": loaded.root, "max_model_len": longest}]}

    def _block_tokens(self) -> int | None:
        configuration = self._ready().llm.llm_engine.vllm_config.cache_config
        return int(configuration.block_size) if configuration.enable_prefix_caching else None

    def _answered(self, answer: Callable[[Loaded, Mapping[str, Any]], Any], body: Mapping[str, Any]) -> Any:
        loaded = self._ready()
        try:
            return answer(loaded, body)
        except loaded.deaths as error:
            self.disconnections += 1
            self._drop()
            raise NotAnswered(f"its engine died of {type(error).__name__}") from error
        except loaded.refusals as error:
            # Its message may quote the prompt.
            raise Rejected(400, f" ({type(error).__name__})") from error

    def _complete(self, loaded: Loaded, body: Mapping[str, Any]) -> Any:
        prompts = [{"prompt_token_ids": list(ids)} for ids in body["prompt"]]
        params = loaded.sampling(**sampling_arguments(body))
        outputs = loaded.llm.generate(prompts, params, use_tqdm=False)
        if body.get("prompt_logprobs") == 0 and any(map(is_bare, outputs)):
            # No ranks: the likeliest token has to be asked for as well.
            return self._complete(loaded, {**body, "prompt_logprobs": 1})
        return {"model": self._name, "choices": [choice(i, output) for i, output in enumerate(outputs)]}


def _tokenize(loaded: Loaded, body: Mapping[str, Any]) -> Any:
    tokenizer = loaded.llm.get_tokenizer()
    text = body.get("prompt")
    if text is None:
        try:
            text = tokenizer.apply_chat_template(
                body["messages"],
                add_generation_prompt=body["add_generation_prompt"],
                tokenize=False,
                **body["chat_template_kwargs"],
            )
        except TemplateError as error:
            raise ValueError("the model's template takes no such messages or switches") from error
    return {"tokens": list(tokenizer.encode(text, add_special_tokens=body["add_special_tokens"]))}


def _detokenize(loaded: Loaded, body: Mapping[str, Any]) -> Any:
    size = loaded.llm.llm_engine.model_config.get_vocab_size()
    if any(not 0 <= token < size for token in body["tokens"]):
        raise ValueError("a token id outside the vocabulary")
    return {"prompt": loaded.llm.get_tokenizer().decode(body["tokens"], skip_special_tokens=False)}


def load_vllm(model: str, arguments: Mapping[str, Any]) -> Loaded:
    """Load a model into an engine of vLLM's.

    Parameters
    ----------
    model : str
        A folder or a name.
    arguments : mapping
        Of ``vllm.LLM``.

    Raises
    ------
    ScorerUnavailable
        It cannot be loaded.
    """
    # Read where it is imported: nothing is told to anybody.
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    try:
        from vllm import LLM, SamplingParams  # noqa: PLC0415  takes seconds, and memory

        llm = LLM(model=model, **arguments)
        folder = Path(model)
        known = llm.llm_engine.model_config
        files = model_digest(folder)[:16] if folder.is_dir() else f"{model}@{known.revision}"
    except (ImportError, OSError, ValueError, TypeError, RuntimeError, KeyError, KshotError) as error:
        why = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:_REASON_CHARACTERS]}"
        raise ScorerUnavailable(f"model {model!r} cannot be loaded: {why}") from error
    loaded = Loaded(llm=llm, sampling=SamplingParams, root=f"{files}/{known.dtype}")
    return replace(
        loaded,
        deaths=(
            *loaded.deaths,
            *_exceptions("vllm.exceptions", "VLLMServerError"),
            *_exceptions("vllm.v1.engine.exceptions", "EngineDeadError"),
        ),
        refusals=(*loaded.refusals, *_exceptions("vllm.exceptions", "VLLMClientError")),
    )


def _exceptions(module: str, name: str) -> tuple[type[Exception], ...]:
    """Return an exception type of vLLM's; older versions raise Python's own instead."""
    try:
        return (getattr(import_module(module), name),)
    except (ImportError, AttributeError):
        return ()
