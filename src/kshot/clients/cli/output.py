"""What goes to stdout, what goes to stderr, and in which form.

Results go to stdout, as tables for people or as JSON for programs; everything else goes to stderr. Colours
appear on terminals only, which rich sees to.
"""

import json
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import Timer
from typing import Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)
_PATIENCE_S = 2.0


def printable(text: str) -> str:
    """Replace control characters, so that stored texts cannot steer the terminal; line ends and tabs stay."""
    return "".join(
        char if char in "\n\t" or unicodedata.category(char) not in {"Cc", "Cf"} else "�" for char in text
    )


def shortened(text: str, width: int) -> str:
    """Put a text on one line of at most ``width`` characters."""
    line = " ".join(printable(text).split())
    return line if len(line) <= width else line[: width - 1] + "…"


def print_json(value: Any) -> None:
    """Print one JSON document."""
    typer.echo(json.dumps(value, default=_plain, ensure_ascii=False, indent=2))


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    raise TypeError(f"{type(value).__name__} is no JSON type")


def print_text(text: str) -> None:
    """Print a text as it is, without wrapping it."""
    typer.echo(printable(text))


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str | None = None,
    lines: bool = False,
    whole: Collection[str] = (),
) -> None:
    """Print a table, with ``lines`` between the rows; texts are never read as markup.

    The columns named by ``whole`` hold what is to be copied: others give way to them on a narrow terminal.
    """
    cells = [list(row) for row in rows]
    table = Table(title=title, title_justify="left", show_lines=lines)
    for position, name in enumerate(columns):
        numbers = all(isinstance(row[position], int | float | None) for row in cells)
        table.add_column(
            name, justify="right" if numbers and cells else "left", overflow="fold", no_wrap=name in whole
        )
    for row in cells:
        table.add_row(*(Text(_cell(value)) for value in row))
    out.print(table)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else printable(str(value))


def print_lines(lines: Iterable[Text]) -> None:
    """Print lines that fit the terminal already."""
    for line in lines:
        out.print(line, no_wrap=True, overflow="ignore", crop=False)


def note(message: str) -> None:
    """Tell something that is not the result, on stderr."""
    err.print(Text(printable(message)), soft_wrap=True)


@contextmanager
def preparing() -> Iterator[None]:
    """Say why making a pool takes long, if it does."""
    words = "preparing the embedder for this machine: about half a minute, the first time only"
    timer = Timer(_PATIENCE_S, lambda: note(words))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def warn(message: str) -> None:
    """Tell something that the caller should look at, on stderr."""
    err.print(Text("warning: ", style="yellow") + Text(printable(message)), soft_wrap=True)


def fail(message: str, hint: str | None = None) -> None:
    """Tell on stderr why a command ends without success."""
    err.print(Text("error: ", style="bold red") + Text(printable(message)), soft_wrap=True)
    if hint is not None:
        err.print(Text("hint: ", style="bold") + Text(hint), soft_wrap=True)
