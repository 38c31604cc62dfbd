"""What comes back from annotators: answers, and what was wrong with the rows that gave none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from kshot.records import Content, canonical_json

CODES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "disagreement": "annotators differ; the latest answer is taken",
        "unfinished": "a draft, or a record that is not completed",
        "other_project": "no task of kshot, or one of another pool or plan",
        "several_values": "several values where one is wanted",
        "unsupported_answer": "spans, ranks or another kind of answer that is no text, number or choice",
        "unstorable": "a NUL, a lone surrogate, NaN or infinity",
        "invalid_id": "an id that is no text of 1 to 256 characters",
        "invalid_annotator": "an annotator's name that is none; it is left out",
        "invalid_time": "a time that is none; it is left out",
        "invalid_row": "a row of another shape",
        "invalid_json": "a line that is no JSON",
    }
)
"""What a `Problem` can be about."""


class Verdict(StrEnum):
    """What an annotator did with a task."""

    GIVEN = "given"
    #: Passed over: skipped, cancelled, ignored, discarded.
    SKIPPED = "skipped"
    #: The suggestion was refused, and nothing was put in its place.
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One annotator's answer to one task."""

    id: str
    #: None unless the verdict is `Verdict.GIVEN`.
    outputs: Content | None
    annotator: str | None = None
    #: Timezone-aware UTC.
    annotated_at: datetime | None = None
    #: Line of a text file, place in a JSON list; counted from 1.
    line: int
    verdict: Verdict = Verdict.GIVEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something about a row that a person should look at."""

    line: int
    id: str | None
    #: A key of `CODES`.
    code: str
    message: str
    #: Whether an answer to this row is among the answers all the same.
    is_answered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFile:
    """What a file of answers says, row by row."""

    #: A name of `kshot.labelling.FORMATS`.
    format: str
    #: At most one per id, in the order of the file.
    answers: Sequence[Answer]
    #: In the order of the file.
    problems: Sequence[Problem]
    #: Tasks that nobody has finished yet.
    unanswered: int

    @property
    def given(self) -> list[Answer]:
        """The answers that can be imported."""
        return [answer for answer in self.answers if answer.verdict is Verdict.GIVEN]


def settle(votes: Sequence[Answer]) -> tuple[list[Answer], list[Problem]]:
    """Decide between several answers to one task.

    The latest given answer counts, and an answer more than a skip. An annotator who answers again corrects
    the earlier answer. Annotators who differ are reported, with the code ``disagreement``; answers without
    an annotator's name count as different annotators'.

    Parameters
    ----------
    votes : sequence of Answer
        In the order of the file.

    Returns
    -------
    answers : list of Answer
        One per id, in the order in which the ids appear first.
    problems : list of Problem
        One per id on which annotators differ.

    Notes
    -----
    An answer without a time is earlier than any with one; of equal times the later in the file counts.
    """
    id_to_votes: dict[str, list[Answer]] = {}
    for vote in votes:
        id_to_votes.setdefault(vote.id, []).append(vote)
    answers, problems = [], []
    for several in id_to_votes.values():
        in_time = sorted(several, key=_time)
        given = [vote for vote in in_time if vote.verdict is Verdict.GIVEN]
        answers.append((given or in_time)[-1])
        if (problem := _disagreement(given)) is not None:
            problems.append(problem)
    return answers, problems


def _time(vote: Answer) -> datetime:
    return vote.annotated_at or datetime.min.replace(tzinfo=UTC)


def _disagreement(given: Sequence[Answer]) -> Problem | None:
    """Compare the last word of each annotator; ``given`` is in the order of time."""
    last_words = {
        (position,) if vote.annotator is None else vote.annotator: vote for position, vote in enumerate(given)
    }
    if len({canonical_json(vote.outputs) for vote in last_words.values()}) < 2:
        return None
    taken = given[-1]
    who = ", ".join(sorted({vote.annotator or "unnamed" for vote in last_words.values()})[:5])
    return Problem(
        line=taken.line,
        id=taken.id,
        code="disagreement",
        message=f"annotators differ ({who}); the latest answer, by {taken.annotator or 'unnamed'}, is taken",
        is_answered=True,
    )
