"""``kshot score``: likelihoods of the completions in a file."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from kshot.clients.cli import output
from kshot.clients.cli.ingest import with_progress
from kshot.clients.cli.session import DataOption, JsonOption, Session, UrlOption
from kshot.clients.cli.sources import Columns, Format, count_lines, read_lines
from kshot.clients.sdk.client import Client
from kshot.errors import InvalidInput
from kshot.schemas.base import plain_json
from kshot.schemas.scoring import MOST_PAIRS, ScoreError, ScoreItem, best_option, completions_in

_SHOWN = 20
_MOST_CHARACTERS = 4_000_000
"""Of one request: well below what a server takes."""


class By(StrEnum):
    """What completions are compared by."""

    SUM = "sum"
    MEAN_TOKEN = "mean_token"  # noqa: S105  (no password)
    PER_BYTE = "per_byte"
    PER_CHARACTER = "per_character"
    PMI = "pmi"


class Start(StrEnum):
    """Where a completion begins, in tokens."""

    JOINT = "joint"
    SEPARATE = "separate"
    HARNESS = "harness"
    IDS = "ids"


class End(StrEnum):
    """What is appended to every completion."""

    NONE = "none"
    NEWLINE = "newline"
    EOT = "eot"


@dataclass(slots=True)
class _Line:
    """One line of the file: what it asks for, and what came back."""

    number: int
    id: Any = None
    pairs: list[dict[str, Any]] = field(default_factory=list)
    is_group: bool = False
    error: ScoreError | None = None
    items: list[ScoreItem] = field(default_factory=list)

    @property
    def completions(self) -> int:
        """How many completions are scored, each form of a label by itself."""
        return sum(map(completions_in, self.pairs))

    @property
    def failures(self) -> list[ScoreError]:
        """What went wrong with the line or its completions."""
        return [error for error in (self.error, *(item.error for item in self.items)) if error is not None]

    def facts(self) -> dict[str, Any]:
        """Return what is printed of the line."""
        named = {"line": self.number} | ({} if self.id is None else {"id": self.id})
        if self.error is not None:
            return {**named, "error": self.error.model_dump()}
        shown = [item.model_dump(mode="json", exclude_none=True) for item in self.items]
        return (
            {**named, "best": best_option(self.items), "results": shown}
            if self.is_group
            else named | shown[0]
        )


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(score)


def score(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines; `-` is stdin.")],
    normalisation: Annotated[By, typer.Option(help="What `score` is.")] = By.SUM,
    unconditional: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="For pmi: the context to compare with.", show_default=False),
    ] = None,
    boundary: Annotated[
        Start | None,
        typer.Option(
            help="Where completions begin, in tokens; default: separate after a line end, else joint.",
            show_default=False,
        ),
    ] = None,
    terminator: Annotated[End, typer.Option(help="Appended to every completion.")] = End.NONE,
    cut: Annotated[
        bool, typer.Option("--cut", help="Cut the start of contexts that are too long, rather than fail.")
    ] = False,
    drop: Annotated[
        bool,
        typer.Option("--drop-demos", help="Drop whole demonstrations of contexts that are too long."),
    ] = False,
    per_token: Annotated[bool, typer.Option("--per-token", help="Also print each token's value.")] = False,
    to: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Default: stdout.", show_default=False),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=10_000, help="Completions per request.")] = 500,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print how likely completions are, as JSON lines in the order of the file.

    A line is `{"context": "2 + 2 =", "completion": " 4"}`, or has `options`, a list of completions, of which
    the `best` is named; `id` is passed on, other fields are passed over. A context may be an object of
    `instruction`, `demonstrations` and `query`, or of `messages`; a completion `{"forms": [...]}`. What
    cannot be scored has an `error` and stops no other line; the exit code is 1 if there is any. The server
    needs a scorer.

        kshot score questions.jsonl --terminator newline > scores.jsonl
        kshot score pairs.jsonl --normalisation pmi --unconditional "Answer:" -o scores.jsonl
        kshot score prompts.jsonl --drop-demos > scores.jsonl
    """
    session = Session.of(context, url, data, as_json=as_json)
    if str(file) != "-" and not file.is_file():
        raise typer.BadParameter(f"there is no file {file}")
    if str(file) != "-" and to is not None and to.exists() and to.samefile(file):
        raise typer.BadParameter("--output is the file that is read")
    if cut and drop:
        raise typer.BadParameter("--cut and --drop-demos exclude each other")
    if normalisation is By.PMI and unconditional is None:
        raise typer.BadParameter("--normalisation pmi needs --unconditional as well")
    options = {
        "normalisation": normalisation.value,
        "unconditional_context": unconditional,
        "boundary": None if boundary is None else boundary.value,
        "terminator": terminator.value,
        "on_overflow": "left" if cut else "drop_demos" if drop else "error",
        "per_token": per_token,
    }
    lines = _lines(read_lines(file, Format.JSONL, Columns()))
    failures: list[tuple[int, ScoreError]] = []
    with (
        session.client() as client,
        _opened(to) as stream,
        with_progress("scoring", count_lines(file, Format.JSONL)) as advance,
    ):
        for batch in _batches(lines, batch_size):
            _score(client, batch, options, batch_size)
            for line in batch:
                stream.write(json.dumps(line.facts(), ensure_ascii=False) + "\n")
                failures += [(line.number, failure) for failure in line.failures]
            stream.flush()
            advance(batch[-1].number)
    for number, failure in failures[:_SHOWN]:
        output.warn(f"line {number}: {failure.message} [{failure.code}]")
    if len(failures) > _SHOWN:
        output.warn(f"and {len(failures) - _SHOWN} more")
    if failures:
        raise typer.Exit(1)


def _opened(to: Path | None) -> Any:
    stream: TextIO = sys.stdout
    return nullcontext(stream) if to is None else to.open("w", encoding="utf-8")


def _lines(rows: Iterable[bytes]) -> Iterator[_Line]:
    for number, row in enumerate(rows, start=1):
        if row.strip():
            yield _line(number, row)


def _line(number: int, row: bytes) -> _Line:
    try:
        # One text that no JSON may hold, and the server would refuse the whole request.
        value = plain_json(json.loads(row))
    except (ValueError, RecursionError) as error:
        return _refused(number, f"is no JSON that can be scored: {error}")
    if not isinstance(value, dict):
        return _refused(number, "is no JSON object")
    name, several = value.get("id"), value.get("options")
    if several is None:
        pair = {part: value[part] for part in ("context", "completion") if part in value}
        return _Line(number, name, [pair])
    if not isinstance(several, list) or not several or "completion" in value:
        return _refused(number, "wants a completion, or options: a list with at least one", name)
    pairs = [{"context": value.get("context"), "completion": one} for one in several]
    return _Line(number, name, pairs, is_group=True)


def _refused(number: int, message: str, name: Any = None) -> _Line:
    return _Line(number, name, error=ScoreError(code="invalid_input", message=message))


def _batches(lines: Iterator[_Line], batch_size: int) -> Iterator[list[_Line]]:
    batch: list[_Line] = []
    for line in lines:
        batch.append(line)
        if sum(one.completions for one in batch) >= batch_size or len(batch) >= batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


def _score(client: Client, batch: list[_Line], options: dict[str, Any], batch_size: int) -> None:
    for part in _requests(batch, batch_size):
        if len(part) == 1 and _is_heavy(part[0]):
            part[0].items = _options(client, part[0].pairs, options)
            continue
        items = client.score(pairs=[pair for line in part for pair in line.pairs], **options).results
        for line in part:
            line.items, items = items[: len(line.pairs)], items[len(line.pairs) :]


def _requests(lines: Iterable[_Line], batch_size: int) -> Iterator[list[_Line]]:
    """Put lines into requests, whole: completions that are compared are asked for together."""
    part: list[_Line] = []
    held = size = 0
    for line in lines:
        if not line.pairs:
            continue
        full = held + line.completions > batch_size or size + _characters(line) > _MOST_CHARACTERS
        if part and full:
            yield part
            part, held, size = [], 0, 0
        part.append(line)
        held += line.completions
        size += _characters(line)
    if part:
        yield part


def _is_heavy(line: _Line) -> bool:
    """Say whether a line goes without saying its context again for each option."""
    return line.is_group and (line.completions > MOST_PAIRS or _characters(line) > _MOST_CHARACTERS)


def _options(client: Client, pairs: list[dict[str, Any]], options: dict[str, Any]) -> list[ScoreItem]:
    items: list[ScoreItem] = []
    for part in _parts(pairs):
        try:
            items += client.score(part[0]["context"], [one["completion"] for one in part], **options).results
        except InvalidInput as error:
            refusal = ScoreError(code=error.code, message=error.message)
            items += [ScoreItem(error=refusal)] * len(part)
    return items


def _parts(pairs: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Divide the options of one context into what one request may hold."""
    part: list[dict[str, Any]] = []
    held = 0
    for pair in pairs:
        if held + completions_in(pair) > MOST_PAIRS:
            yield part
            part, held = [], 0
        part.append(pair)
        held += completions_in(pair)
    yield part


def _characters(line: _Line) -> int:
    return sum(len(str(value)) for pair in line.pairs for value in pair.values())
