"""Likelihoods from vLLM in this process, for batch jobs."""

import random
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kshot.clients.scorers.assessment import Sanity
from kshot.clients.scorers.completion_scorer import CompletionScorer
from kshot.clients.scorers.endpoint import Limits
from kshot.clients.scorers.engine import Engine, Loaded, load_vllm
from kshot.errors import MissingDependency

_SANITY = Sanity()
_LIMITS = Limits(tokens=2**20, read_tokens=2**16, prompts_per_call=1024)
"""More at once than a server is asked for: requests follow each other, and only a large one keeps it busy."""


class VllmOfflineScorer(CompletionScorer):
    """A `CompletionScorer` over ``vllm.LLM``.

    The model is loaded when it is first needed, which takes a minute or more; one worker thread runs it. It
    is checked by the same canaries as a server is.

    Parameters
    ----------
    model : str
        A folder, or a name on the Hugging Face hub; ``HF_HUB_OFFLINE=1`` forbids to look there.
    dtype : str
        Numeric type of the weights; ``auto`` is the model's own.
    end : str or None
        The marker that ends an answer (``terminator="eot"``); None looks for a known one.
    sanity : Sanity
        A context with a good and a bad completion, in the model's language.
    tolerance_nats : float
        By how much equal requests may differ per token, on average.
    max_model_tokens : int or None
        Of context and completion together; None for what the model allows.
    audit_share : float
        Of the scores, that are computed again in another mode, in the background.
    limits : Limits
    arguments : mapping
        Further ones of ``vllm.LLM``, such as ``tensor_parallel_size``.
    load, clock, rng
        Loading the model, monotonic seconds and randomness, for tests.

    Raises
    ------
    MissingDependency
        vLLM is absent.
    """

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "auto",
        end: str | None = None,
        sanity: Sanity = _SANITY,
        tolerance_nats: float = 0.05,
        max_model_tokens: int | None = None,
        audit_share: float = 0.01,
        limits: Limits = _LIMITS,
        arguments: Mapping[str, Any] | None = None,
        load: Callable[[], Loaded] | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        if load is None:
            if find_spec("vllm") is None:
                raise MissingDependency.of(
                    "vllm", extra="vllm", purpose="an engine of vLLM's in this process"
                )
            longest = {} if max_model_tokens is None else {"max_model_len": max_model_tokens}
            load = partial(load_vllm, model, {"dtype": dtype, **longest, **(arguments or {})})
        folder = Path(model)
        super().__init__(
            Engine(folder.name if folder.is_dir() else model, load),
            None,
            tokenizer=None,
            end=end,
            sanity=sanity,
            tolerance_nats=tolerance_nats,
            max_model_tokens=max_model_tokens,
            audit_share=audit_share,
            limits=limits,
            clock=clock,
            rng=rng or random.Random(),
        )
