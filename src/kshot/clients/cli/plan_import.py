"""``kshot plan import``: a labelling tool's export into a pool."""

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from kshot.clients.cli import output
from kshot.clients.cli.ingest import with_progress
from kshot.clients.cli.session import DataOption, JsonOption, Session, UrlOption
from kshot.errors import PayloadTooLarge
from kshot.labelling import AUTO, FORMATS, MAX_FILE_BYTES, AnswerFile, Problem, Verdict, read_answers
from kshot.schemas.annotations import AnnotationReply

_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the command to those about plans."""
    app.command("import")(import_answers)


def import_answers(
    context: typer.Context,
    pool: Annotated[str, typer.Argument(metavar="POOL", help="Pool that the examples are in.")],
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What the labelling tool exported; `-` is stdin.")
    ],
    form: Annotated[
        str, typer.Option("--format", "-f", help=f"{', '.join(FORMATS)}, or {AUTO}: the file shows it.")
    ] = AUTO,
    output_field: Annotated[
        list[str] | None,
        typer.Option(
            help="Question or column whose answer is the output; several give named fields. "
            "Default: all that were answered.",
            show_default=False,
        ),
    ] = None,
    plan: Annotated[
        str | None, typer.Option(help="Only answers to tasks of this plan.", show_default=False)
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Answers replace other outputs that examples have.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take annotators' answers back: they become outputs, and the examples are approved.

    Reads exports of Label Studio (JSON, JSON_MIN, CSV), Argilla (records as JSON) and Prodigy (db-out), and
    JSON Lines or CSV with `id` and `outputs`. Rows that are no answer are listed and stop no other; the exit
    code is 1 if there are any. Importing a file again changes nothing.

        kshot plan import tickets export.json
        kshot plan import tickets answers.csv --output-field label --dry-run
    """
    session = Session.of(context, url, data, as_json=as_json)
    if form not in {AUTO, *FORMATS}:
        raise typer.BadParameter(f"--format is {form}, allowed are {AUTO}, {', '.join(FORMATS)}")
    answers = read_answers(_read(file), form, pool=pool, plan=plan, output_fields=output_field or ())
    with session.client() as client, with_progress(f"importing into {pool}", len(answers.given)) as advance:
        reply = client.import_answers(
            pool,
            answers,
            on_conflict="replace" if replace else "report",
            dry_run=dry_run,
            on_progress=advance,
        )
    if session.json:
        output.print_json(_facts(pool, answers, reply, dry_run=dry_run))
    else:
        output.print_text(_summary(pool, answers, reply, dry_run=dry_run))
    _warn(answers, reply)
    if reply.rejected or any(_is_loss(problem) for problem in answers.problems):
        raise typer.Exit(1)


def _read(file: Path) -> bytes:
    if str(file) == "-":
        return sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    if not file.is_file():
        raise typer.BadParameter(f"there is no file {file}")
    if (size := file.stat().st_size) > MAX_FILE_BYTES:
        raise PayloadTooLarge(f"{file.name} has {size} bytes, allowed at most {MAX_FILE_BYTES}")
    return file.read_bytes()


def _passed_over(answers: AnswerFile) -> dict[str, int]:
    counts = Counter(str(answer.verdict) for answer in answers.answers)
    return {
        "skipped": counts[Verdict.SKIPPED],
        "refused": counts[Verdict.REJECTED],
        "unanswered": answers.unanswered,
    }


def _facts(pool: str, answers: AnswerFile, reply: AnnotationReply, *, dry_run: bool) -> dict[str, Any]:
    problems = [
        {name: getattr(problem, name) for name in ("line", "id", "code", "message", "is_answered")}
        for problem in answers.problems
    ]
    return {
        "pool": pool,
        "format": answers.format,
        "dry_run": dry_run,
        **reply.model_dump(mode="json"),
        **_passed_over(answers),
        "problems": problems,
    }


def _summary(pool: str, answers: AnswerFile, reply: AnnotationReply, *, dry_run: bool) -> str:
    done = f"{reply.approved} approved, {reply.replaced} replaced, {reply.unchanged} unchanged"
    lost = len(reply.rejected) + sum(_is_loss(problem) for problem in answers.problems)
    passed_over = ", ".join(f"{n} {what}" for what, n in _passed_over(answers).items() if n)
    parts = [f"{'would be ' if dry_run else ''}{done}, {lost} rejected", passed_over]
    return f"pool {pool}, {answers.format}: {'; '.join(part for part in parts if part)}"


def _is_loss(problem: Problem) -> bool:
    """Tell whether an answer was given and not taken; drafts are on their way."""
    return not problem.is_answered and problem.code != "unfinished"


def _warn(answers: AnswerFile, reply: AnnotationReply) -> None:
    lines = [(one.line, one.id, one.message, one.code) for one in answers.problems]
    lines += [(row.line, row.id, f"{row.pointer} {row.message}", row.code) for row in reply.rejected]
    for line, example_id, message, code in sorted(lines, key=lambda one: one[0])[:_SHOWN]:
        named = "" if example_id is None else f" ({example_id})"
        output.warn(f"line {line}{named}: {message} [{code}]")
    if len(lines) > _SHOWN:
        output.warn(f"and {len(lines) - _SHOWN} more; --json has all")
