"""How sure a language model is of its answer to each row, with labelled rows as demonstrations."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from kshot.arrays import Float32s, Float64s, Int64s
from kshot.clients.scorers.base import Capabilities, Pair, Scored, ScoringOptions, Text
from kshot.errors import InvalidInput, KshotError, Unavailable
from kshot.formatting import Prompt, Turn
from kshot.index.store import Store
from kshot.records import Example
from kshot.schemas.base import Notice
from kshot.schemas.plans import ConfidenceInfo
from kshot.selectors.annotation.base import Report
from kshot.selectors.ranking import top_k
from kshot.server.services.planning.gathering import Task
from kshot.server.services.runtime import PoolRuntime
from kshot.server.services.scoring.answers import gap_before_answer
from kshot.server.services.scoring.cache import CachedScorer
from kshot.server.services.scoring.service import ScoringService

MOST_LABELS = 20
"""With more labels than these, the model's own answer is asked for instead of the likelihood of each."""
DEMONSTRATIONS = 8
ANSWER_TOKENS = 32
"""Longest answer of the model's own."""
ROWS_AT_ONCE = 64
"""After so many rows their scores are on disk."""
_ESTIMATE_MARGIN = 0.5
"""Share of the context that is filled where tokens are only estimated."""
_OPTIONS = ScoringOptions(on_overflow="left")


@dataclass(frozen=True, slots=True)
class Confidences:
    """What was found out about the rows of a task.

    Attributes
    ----------
    values : float64 array, shape (m,)
        Mean log-probability of an answer's tokens, in nats; NaN of labelled rows, and of those for which
        there is none.
    info : ConfidenceInfo
    notices : list of Notice
    """

    values: Float64s
    info: ConfidenceInfo
    notices: list[Notice]


def nearest_last(vectors: Float32s, vector: Float32s, k: int) -> Int64s:
    """Return the k unit rows of largest cosine to a vector, the nearest last; of equal ones the first."""
    return top_k(vectors @ vector, k)[::-1]


def surest(nats: Sequence[float], tokens: Sequence[int]) -> float:
    """Return the largest mean log-probability among answers; NaN where none is possible."""
    means = [total / count for total, count in zip(nats, tokens, strict=True) if np.isfinite(total)]
    return max(means, default=np.nan)


def confidences(
    task: Task, runtime: PoolRuntime, store: Store, scoring: ScoringService, report: Report
) -> Confidences:
    """Ask the scorer about every unlabelled row.

    Each row is the query of a prompt whose demonstrations are the labelled rows nearest to it. Where the
    labelled rows have up to `MOST_LABELS` outputs, each of them twice on average, the confidence is the mean
    log-probability of the likeliest one's tokens; else that of the model's own answer, which takes one
    request per row. Scores are remembered batch by batch, so that work that was cut short is not done again.

    Raises
    ------
    ScorerUnavailable
        There is no scorer, or it does not answer.
    InvalidInput
        No row could be scored.
    """
    asked = _Asked(task, runtime, store)
    capabilities = scoring.run(CachedScorer.capabilities, lambda: report(0, 1))
    prompts = _Prompts(asked, capabilities)
    values = np.full(len(task.part.rows), np.nan)
    open_rows = np.flatnonzero(~task.part.labelled)
    cut, first_failure = 0, ""
    for start in range(0, len(open_rows), ROWS_AT_ONCE):
        rows = open_rows[start : start + ROWS_AT_ONCE]
        report(start, len(open_rows))
        texts = prompts.texts(rows)

        def tick(done: int = start) -> None:
            report(done, len(open_rows))

        work = (
            partial(_by_label, prompts=texts, completions=asked.completions)
            if asked.by_label
            else partial(_by_answer, prompts=texts)
        )
        batch = scoring.run(work, tick)
        values[rows] = batch.values
        cut += batch.cut
        first_failure = first_failure or batch.failure
    missing = int(np.count_nonzero(np.isnan(values[open_rows])))
    if missing == len(open_rows):
        raise InvalidInput(
            f"no example could be scored: {first_failure or 'the model rules out every answer'}"
        )
    return Confidences(
        values, asked.info(capabilities), _notices(missing, len(open_rows), cut, first_failure)
    )


class _Asked:
    """What all prompts of a task share: its demonstrations and its labels."""

    def __init__(self, task: Task, runtime: PoolRuntime, store: Store) -> None:
        self.task = task
        self.runtime = runtime
        self._store = store
        self._row_to_turn: dict[int, Turn] = {}
        rows = np.flatnonzero(task.part.labelled)
        if not len(rows):
            raise InvalidInput("no labelled example takes part, and the scorer's prompts are made of them")
        labels: dict[str, None] = {}
        self._gap = " "
        for start in range(0, len(rows), ROWS_AT_ONCE):
            for row, example in self._examples(rows[start : start + ROWS_AT_ONCE]).items():
                turn = runtime.templates.turn(example.inputs, example.outputs, example.metadata)
                if not labels:
                    self._gap = gap_before_answer(turn, runtime.templates.query(example.inputs).text)
                labels[turn.output] = None
                if len(labels) > MOST_LABELS:
                    break
                self._row_to_turn[row] = turn
            if len(labels) > MOST_LABELS:
                break
        # Outputs that do not come again are no labels, or not all of them.
        self.by_label = len(labels) <= MOST_LABELS and 2 * len(labels) <= len(rows)
        self.completions = [self._gap + label for label in labels]
        named = list(labels) if self.by_label else []
        self.system = runtime.templates.system(runtime.record.name, named)

    def turns(self, rows: Int64s) -> list[Turn]:
        """Return labelled rows as demonstrations; those that were erased meanwhile are left out."""
        unknown = np.array([row for row in rows.tolist() if row not in self._row_to_turn], np.int64)
        for row, example in self._examples(unknown).items():
            self._row_to_turn[row] = self.runtime.templates.turn(
                example.inputs, example.outputs, example.metadata
            )
        return [self._row_to_turn[row] for row in rows.tolist() if row in self._row_to_turn]

    def queries(self, rows: Int64s) -> list[Example | None]:
        """Return unlabelled rows; None for one that was erased meanwhile."""
        found = self._examples(rows)
        return [found.get(row) for row in rows.tolist()]

    def _examples(self, rows: Int64s) -> dict[int, Example]:
        seqs = self.task.snapshot.seqs[self.task.part.rows[rows]].tolist()
        seq_to_row = dict(zip(seqs, rows.tolist(), strict=True))
        found = self._store.get_examples_by_seq(self.runtime.record.id, seqs)
        by_row = {seq_to_row[example.seq]: example for example in found}
        return dict(sorted(by_row.items()))

    def info(self, capabilities: Capabilities) -> ConfidenceInfo:
        """Tell how confidences were asked for."""
        return ConfidenceInfo(
            model=capabilities.model,
            fingerprint=capabilities.fingerprint,
            measure="best_label" if self.by_label else "greedy_answer",
            labels=len(self.completions) if self.by_label else None,
            demonstrations=DEMONSTRATIONS,
        )


class _Prompts:
    """Lays out the prompt of each row, with as many demonstrations as the model's context holds."""

    def __init__(self, asked: _Asked, capabilities: Capabilities) -> None:
        self._asked = asked
        dense = asked.task.snapshot.dense
        assert dense is not None
        part = asked.task.part
        self._vectors = dense.vectors[part.rows]
        self._labelled = np.flatnonzero(part.labelled)
        self._labelled_vectors = self._vectors[self._labelled]
        counter = asked.runtime.tokenizer
        longest = int(counter.count(asked.completions).max()) if asked.by_label else ANSWER_TOKENS
        room = capabilities.max_model_tokens - longest - 1
        self._room = room if counter.exact else int(room * _ESTIMATE_MARGIN)

    def texts(self, rows: Int64s) -> list[str | None]:
        """Return the prompts of some rows; None for a row that was erased meanwhile."""
        asked = self._asked
        near = [
            self._labelled[nearest_last(self._labelled_vectors, self._vectors[row], DEMONSTRATIONS)]
            for row in rows.tolist()
        ]
        asked.turns(np.unique(np.concatenate(near)))
        return [
            None if example is None else self._text(asked.turns(ids), example)
            for ids, example in zip(near, asked.queries(rows), strict=True)
        ]

    def _text(self, turns: list[Turn], example: Example) -> str:
        templates = self._asked.runtime.templates
        query = templates.query(example.inputs)
        counter = self._asked.runtime.tokenizer
        while True:
            text = Prompt(turns, query, self._asked.system, templates.separator).text()
            if not turns or int(counter.count([text])[0]) <= self._room:
                return text
            turns = turns[1:]  # the farthest one


@dataclass(frozen=True, slots=True)
class _Batch:
    values: Float64s
    cut: int = 0
    failure: str = ""


async def _by_label(
    scorer: CachedScorer, prompts: Sequence[str | None], completions: Sequence[str]
) -> _Batch:
    """Score every label of every prompt."""
    known = [prompt for prompt in prompts if prompt is not None]
    pairs = [Pair(context=prompt, completion=one) for prompt in known for one in completions]
    results = await scorer.score_batch(pairs, _OPTIONS)
    found: list[float] = []
    cut, failure = 0, ""
    width = len(completions)
    for start in range(0, len(results), width):
        group = results[start : start + width]
        scored = [one for one in group if isinstance(one, Scored)]
        failure = failure or next((one.message for one in group if not isinstance(one, Scored)), "")
        # Without all of its labels a row cannot be compared with others.
        complete = len(scored) == width
        found.append(
            surest([one.sum_nats for one in scored], [one.tokens for one in scored]) if complete else np.nan
        )
        cut += any(one.dropped for one in scored)
    return _Batch(_spread(prompts, found), cut, failure)


async def _by_answer(scorer: CachedScorer, prompts: Sequence[str | None]) -> _Batch:
    """Let the model answer every prompt."""
    known: list[Text] = [prompt for prompt in prompts if prompt is not None]
    failure = ""
    try:
        found = (await scorer.greedy_mean_nats(known, ANSWER_TOKENS)).tolist()
    except Unavailable:
        raise
    except KshotError:
        # One of them cannot be answered; the others can.
        found = []
        for prompt in known:
            try:
                found += (await scorer.greedy_mean_nats([prompt], ANSWER_TOKENS)).tolist()
            except Unavailable:
                raise
            except KshotError as error:
                found.append(np.nan)
                failure = failure or error.message
    return _Batch(_spread(prompts, [one if np.isfinite(one) else np.nan for one in found]), failure=failure)


def _spread(prompts: Sequence[str | None], found: Sequence[float]) -> Float64s:
    values = iter(found)
    return np.array([np.nan if prompt is None else next(values) for prompt in prompts], np.float64)


def _notices(missing: int, total: int, cut: int, failure: str) -> list[Notice]:
    notices = []
    if missing:
        reason = f": {failure}" if failure else ""
        message = f"{missing} of {total} unlabelled examples could not be scored{reason}"
        notices.append(Notice(code="confidence_missing", message=message))
    if cut:
        message = f"the prompts of {cut} examples were too long, and lost their start"
        notices.append(Notice(code="confidence_cut", message=message))
    return notices
