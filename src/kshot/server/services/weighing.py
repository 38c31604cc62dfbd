"""Which of several prompts makes the model surest of its label: what is asked, what it costs, what wins."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kshot.arrays import Int64s
from kshot.clients.scorers.base import NotScored, Pair, Scored
from kshot.errors import FieldError, InvalidParameter, KshotError, TooCostly
from kshot.formatting import Prompt, QueryTurn
from kshot.index.columns import MISSING
from kshot.index.store import Store
from kshot.records import Content
from kshot.schemas.base import Notice
from kshot.selectors import best_organisation, label_entropy
from kshot.selectors.mdl import Mdl
from kshot.server.logs import get_logger
from kshot.server.services.drafting import MDL_ORDER, Draft
from kshot.server.services.fetching import load_shown
from kshot.server.services.runtime import PoolRuntime
from kshot.server.services.scoring.answers import gap_before_answer
from kshot.server.services.scoring.service import ScoringService

log = get_logger(__name__)
LIMIT_SETTING = "KSHOT_SCORER_QUERY_TOKENS"
_MOST_SINGLE_LABELS = 1_000
"""More labels than these are not looked at: they cannot all be one token, and reading them takes time."""
_DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Questions:
    """What the scorer is asked about the arrangements of a draft.

    Attributes
    ----------
    prompts : sequence of str
        One for each arrangement.
    blanks : sequence of str
        The same with a query without content; empty without calibration.
    completions : sequence of str
        The answers that the labels stand for, with what stands before them in the prompt.
    asked : int
        Prompts that the scorer reads, as far as is known.
    tokens : int
        Theirs.
    """

    prompts: Sequence[str]
    blanks: Sequence[str]
    completions: Sequence[str]
    asked: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which arrangement is taken, and what is told of it.

    ``notice`` says why the first one was, where nobody could tell the best.
    """

    place: int
    diagnostics: Mapping[str, Any]
    notice: Notice | None = None

    @property
    def degraded(self) -> bool:
        """Whether the choice was made without the scorer."""
        return self.notice is not None


def questions(store: Store, runtime: PoolRuntime, draft: Draft, limit: int) -> Questions | None:
    """Lay out what to ask, and refuse what would cost too much; None where there is nothing to choose.

    Labels are those of the examples that filter and exclusions leave. What the model is asked about is the
    answer of the first of them that has the label, as the prompt template renders it.

    Parameters
    ----------
    limit : int
        Prompt tokens that may be asked for.

    Raises
    ------
    InvalidParameter
        No example has a label.
    TooCostly
        The message has the estimate, the limit, and what to change.
    """
    mdl, inputs = draft.mdl, draft.request.inputs
    if mdl is None or inputs is None or len(draft.arrangements) < 2:
        return None
    examples = _one_of_each_label(draft)
    if not len(examples):
        message = (
            "'mdl' needs labels, and no example that may be chosen has one; set the pool's `label_field`"
        )
        raise InvalidParameter(message, errors=[FieldError(_pointer(draft), message)])
    if len(examples) == 1:
        return None
    query = runtime.templates.query(inputs)
    prompts = _prompts(runtime, draft, query)
    blanks: list[str] = []
    if mdl.calibration != "none":
        blanks = _prompts(runtime, draft, runtime.templates.query(blanked(inputs, mdl.calibration)))
    distinct = list(dict.fromkeys([*prompts, *blanks]))
    tokens = int(runtime.tokenizer.count(distinct).sum())
    completions: list[str] = []
    asked = len(distinct) * len(examples)
    if len(examples) <= _MOST_SINGLE_LABELS:
        completions = _completions(store, runtime, draft, examples)
        if len(completions) < 2:
            return None
        lengths = runtime.tokenizer.count(completions)
        single = runtime.tokenizer.exact and bool((lengths == 1).all())
        asked = len(distinct) * (1 if single else len(completions))
    tokens *= asked // len(distinct)
    if tokens > limit or not completions:
        raise _too_costly(draft, mdl, len(completions) or len(examples), asked, tokens, limit)
    return Questions(prompts, blanks, completions, asked, tokens)


async def weighed(scoring: ScoringService, asked: Questions, mdl: Mdl, left_ms: float | None) -> Verdict:
    """Ask the scorer, and choose; where it does not answer, or not in time, the first arrangement is taken.

    Parameters
    ----------
    left_ms : float or None
        Milliseconds until the answer is of no use; None waits for as long as the scorer takes.
    """
    facts: dict[str, Any] = {
        "organisations": len(asked.prompts),
        "labels": len(asked.completions),
        "scorer_prompts": asked.asked,
        "scorer_tokens": asked.tokens,
    }
    contexts = [*asked.prompts, *asked.blanks]
    pairs = [Pair(context=one, completion=label) for one in contexts for label in asked.completions]
    try:
        # What is remembered comes without waiting, and so before any deadline.
        async with asyncio.timeout(None if left_ms is None else max(left_ms, 0.0) / 1000):
            results = await (await scoring.scorer()).score_batch(pairs)
    except TimeoutError:
        return _without(
            facts, f"the scorer had {max(left_ms or 0.0, 0.0):.1f} ms of deadline_ms, and was late"
        )
    except KshotError as error:
        log.warning("mdl_without_scorer", code=error.code)
        return _without(facts, f"{error.code}: {error.message}")
    values = np.array([_mean_nats(one) for one in results]).reshape(len(contexts), -1)
    count = len(asked.prompts)
    entropies = label_entropy(values[:count], values[count:] if asked.blanks else None)
    place = best_organisation(entropies, mdl.objective)
    known = [None if np.isnan(one) else round(one, _DECIMALS) for one in entropies.tolist()]
    facts |= {"entropies": known}
    if place is None:
        failed = next((one.message for one in results if isinstance(one, NotScored)), "no label is possible")
        return _without(facts, f"no prompt could be scored: {failed}")
    return Verdict(place, {**facts, "organisation": place})


def blanked(inputs: Content, calibration: str) -> Content:
    """Return inputs without content: every text of them replaced, as `Mdl.calibration` says."""

    def blank(text: str) -> str:
        if calibration == "x":
            return " ".join(["x"] * len(text.split())) or "x"
        return {"na": "N/A", "mask": "[MASK]"}[calibration]

    if isinstance(inputs, str):
        return blank(inputs)
    return {
        name: value if value is None else blank(value if isinstance(value, str) else "")
        for name, value in inputs.items()
    }


def _mean_nats(result: Scored | NotScored) -> float:
    return result.sum_nats / result.tokens if isinstance(result, Scored) else np.nan


def _without(facts: Mapping[str, Any], reason: str) -> Verdict:
    message = f"mdl chose without the scorer, so the first organisation holds: {reason}"
    return Verdict(0, {**facts, "organisation": 0}, Notice(code="degraded", message=message))


def _one_of_each_label(draft: Draft) -> Int64s:
    """Return the first row of each label among those that may be chosen, in row order."""
    column = draft.snapshot.field_to_column.get("label")
    if column is None:
        return np.empty(0, np.int64)
    rows = draft.allowed.rows
    codes = column.codes[rows]
    labelled = rows[codes != MISSING]
    _, first = np.unique(column.codes[labelled], return_index=True)
    return np.sort(labelled[first])


def _completions(store: Store, runtime: PoolRuntime, draft: Draft, rows: Int64s) -> list[str]:
    """Return the different answers of some rows, each with what stands between a query and it."""
    found: dict[str, None] = {}
    gap: str | None = None
    load = lambda seqs: load_shown(store, runtime, seqs)  # noqa: E731  (as short as a name for it)
    for _, shown in runtime.shown.get(draft.snapshot, rows, load):
        if gap is None:
            gap = gap_before_answer(shown.turn, runtime.templates.query(shown.example.inputs).text)
        found[gap + shown.turn.output] = None
    return list(found)


def _prompts(runtime: PoolRuntime, draft: Draft, query: QueryTurn) -> list[str]:
    system = None if draft.frame is None else draft.frame.system
    separator = runtime.templates.separator
    return [
        Prompt([shown.turn for shown in one.chosen], query, system, separator).text()
        for one in draft.arrangements
    ]


def _pointer(draft: Draft) -> str:
    return "/method" if isinstance(draft.method.selector, Mdl) else "/order"


def _too_costly(draft: Draft, mdl: Mdl, labels: int, asked: int, tokens: int, limit: int) -> TooCostly:
    count = len(draft.arrangements)
    work = f"{count} organisations x {labels} labels" + (
        ", twice to calibrate" if mdl.calibration != "none" else ""
    )
    message = (
        f"{MDL_ORDER!r} would ask the scorer for up to {asked:,} prompts of {tokens:,} tokens together "
        f"({work}), allowed {limit:,} tokens; ask for fewer `organisations` or a smaller k, filter the "
        "labels, give the pool a tokenizer by which each label is one token, or let the operator raise "
        f"{LIMIT_SETTING}"
    )
    return TooCostly(message, errors=[FieldError(_pointer(draft), message)])
