"""Collects what the rows of a file say, so that one bad row stops no other."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from kshot.errors import InvalidInput
from kshot.labelling.answers import Answer, AnswerFile, Problem, Verdict, settle
from kshot.labelling.outputs import UnusableError, content, is_empty, picked
from kshot.labelling.parsing import MAX_ID_CHARACTERS, is_storable, kind_of, moment, parse_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Which answers are wanted.

    Attributes
    ----------
    pool, plan : str, optional
        Rows that name another pool or plan are reported as ``other_project``.
    output_fields : tuple of str
        Which of a tool's questions make the outputs: one gives a text, several give named fields. Default:
        all that the file has answers to.
    """

    pool: str | None = None
    plan: str | None = None
    output_fields: tuple[str, ...] = ()


@dataclass(slots=True)
class Votes:
    """Collects what the rows of a file say. Bad rows become problems; none is raised."""

    expected: Expected
    unanswered: int = 0
    problems: list[Problem] = field(default_factory=list)
    #: Without outputs yet, since their shape depends on what the other rows answer.
    _votes: list[tuple[Answer, Mapping[str, Any] | None, Any]] = field(default_factory=list)

    def problem(
        self,
        line: int,
        code: str,
        message: str,
        *,
        id: str | None = None,  # noqa: A002  (the word of the records)
        is_answered: bool = False,
    ) -> None:
        """Report a row."""
        self.problems.append(Problem(line=line, id=id, code=code, message=message, is_answered=is_answered))

    def own_id(self, line: int, found: Any, *, pool: Any = None, plan: Any = None) -> str | None:
        """Return the id of a row that belongs here; else report the row and return None."""
        if found is None or found == "":
            self.problem(line, "other_project", "has no id of kshot: it was not made from a pool")
            return None
        if not (isinstance(found, str) and len(found) <= MAX_ID_CHARACTERS and is_storable(found)):
            message = f"the id is {kind_of(found)}, wanted text of at most {MAX_ID_CHARACTERS} characters"
            self.problem(line, "invalid_id", message)
            return None
        for what, actual, wanted in (("pool", pool, self.expected.pool), ("plan", plan, self.expected.plan)):
            if wanted is not None and actual not in (None, "", wanted):
                named = repr(actual[:100]) if isinstance(actual, str) else kind_of(actual)
                self.problem(line, "other_project", f"is of {what} {named}, wanted {wanted!r}", id=found)
                return None
        return found

    def add(
        self,
        line: int,
        id: str,  # noqa: A002  (the word of the records)
        *,
        values: Mapping[str, Any] | None = None,
        outputs: Any = None,
        verdict: Verdict = Verdict.GIVEN,
        annotator: Any = None,
        annotated_at: Any = None,
    ) -> None:
        """Take an answer: ``values`` by question, or whole ``outputs``. Who and when may be anything."""
        vote = Answer(
            id=id,
            outputs=None,
            annotator=self._annotator(line, id, annotator),
            annotated_at=self._time(line, id, annotated_at),
            line=line,
            verdict=verdict,
        )
        self._votes.append((vote, values, outputs))

    def finish(self, form: str) -> AnswerFile:
        """Give the outputs their shape, and decide between several answers to one task.

        Raises
        ------
        InvalidInput
            No row answers any of the questions that were asked for.
        """
        names = self._names()
        answers, differing = settle([vote for vote in self._shaped(names) if vote is not None])
        answered = {answer.id for answer in answers}
        problems = [
            replace(problem, is_answered=problem.is_answered and problem.id in answered)
            for problem in sorted([*self.problems, *differing], key=lambda problem: problem.line)
        ]
        return AnswerFile(format=form, answers=answers, problems=problems, unanswered=self.unanswered)

    def _names(self) -> tuple[str, ...]:
        given = (values for vote, values, _ in self._votes if vote.verdict is Verdict.GIVEN)
        found = dict.fromkeys(name for values in given for name in values or ())
        wanted = self.expected.output_fields
        if wanted and found and not found.keys() & set(wanted):
            there = ", ".join(list(found)[:10])
            raise InvalidInput(f"no row answers {', '.join(wanted)}; the file has answers to {there}")
        return wanted or tuple(found)

    def _shaped(self, names: tuple[str, ...]) -> Iterator[Answer | None]:
        for vote, values, outputs in self._votes:
            if vote.verdict is not Verdict.GIVEN:
                yield vote
                continue
            raw = outputs if values is None else picked(values, names)
            if is_empty(raw):
                self.unanswered += 1
                continue
            try:
                yield replace(vote, outputs=content(raw))
            except UnusableError as error:
                self.problem(vote.line, error.code, str(error), id=vote.id)

    def _annotator(self, line: int, id_: str, found: Any) -> str | None:
        if isinstance(found, int) and not isinstance(found, bool):
            found = str(found)
        if found is None or found == "":
            return None
        if isinstance(found, str) and len(found) <= MAX_ID_CHARACTERS and is_storable(found):
            return found
        message = (
            f"the annotator is {kind_of(found)}, wanted a name of at most {MAX_ID_CHARACTERS} characters"
        )
        self.problem(line, "invalid_annotator", f"{message}; it is left out", id=id_, is_answered=True)
        return None

    def _time(self, line: int, id_: str, found: Any) -> datetime | None:
        if found is None or found == "":
            return None
        try:
            return moment(found)
        except (ValueError, OverflowError, OSError):
            message = "the time is neither ISO 8601 nor seconds since 1970; it is left out"
            self.problem(line, "invalid_time", message, id=id_, is_answered=True)
            return None


def objects(rows: Iterable[Any], votes: Votes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a list with their places, counted from 1; report what is none."""
    for place, row in enumerate(rows, start=1):
        if isinstance(row, dict):
            yield place, row
        else:
            votes.problem(place, "invalid_row", f"is {kind_of(row)}, wanted an object")


def line_objects(text: str, votes: Votes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a JSON Lines file with their lines; report lines that hold none."""
    for line, row in enumerate(text.split("\n"), start=1):
        if not row.strip():
            continue
        try:
            value = parse_json(row)
        except ValueError as error:
            votes.problem(line, "invalid_json", f"is no JSON: {error}")
            continue
        if isinstance(value, dict):
            yield line, value
        else:
            votes.problem(line, "invalid_row", f"is {kind_of(value)}, wanted an object")
