"""Which parts of a query each demonstration covers, drawn for a terminal."""

from collections.abc import Iterator, Mapping, Sequence

from rich.cells import cell_len, set_cell_size
from rich.style import Style
from rich.text import Text

from kshot.clients.cli.output import shortened
from kshot.schemas.coverage import Coverage

MOST_TOKENS = 60
"""Columns drawn of a long query."""
_TOKEN_WIDTH = 12
_CELL_WIDTH = 4
_ID_WIDTH = 12
_LABEL_WIDTH = 16
_SHADED_FROM = 0.3


def heat_map(coverage: Coverage, labels: Mapping[str, str | None], width: int) -> Iterator[Text]:
    """Draw one row per demonstration and one column per token, in as many blocks as the width asks for.

    Cells hold the cosine and need no colour to be read; colour shades them. A star marks a column's best
    cell, where the token counts as covered.

    Parameters
    ----------
    coverage : Coverage
    labels : mapping
        Label of each demonstration, by id.
    width : int
        Of the terminal, in cells. A block has one column at least, however narrow the terminal is.

    Yields
    ------
    Text
        One line each.
    """
    tokens = coverage.tokens[:MOST_TOKENS]
    names = [shortened(token.text, _TOKEN_WIDTH) or "_" for token in tokens]
    widths = [max(_CELL_WIDTH, cell_len(name)) for name in names]
    rows = [
        (_heading(rank, one.id, labels.get(one.id)), one.id, one.scores)
        for rank, one in enumerate(coverage.demonstrations, 1)
    ]
    longest = max((cell_len(heading) for heading, _, _ in rows), default=0)
    heading_width = min(longest, max(width // 3, 1))
    yield Text("each token of the query and its best match in each demonstration, as cosine", style="italic")
    for first, stop in _blocks(widths, width - heading_width):
        if first:
            yield Text()
        yield Text(" " * heading_width, end="").append_text(
            Text("".join(f" {set_cell_size(names[i], widths[i])}" for i in range(first, stop)), style="bold")
        )
        for heading, example_id, scores in rows:
            line = Text(set_cell_size(shortened(heading, heading_width), heading_width))
            for i in range(first, stop):
                is_best = tokens[i].covered and tokens[i].best_id == example_id
                cell = f"{_cosine(scores[i])}{'*' if is_best else ''}"
                line.append(" ").append(set_cell_size(cell, widths[i]), style=_shade(scores[i]))
            yield line
    left_out = len(coverage.tokens) - len(tokens)
    if left_out:
        yield Text(f"{left_out} more tokens are not shown")
    yield Text(
        f"* best, where a token counts as covered (from {coverage.covered_from}): "
        f"{coverage.covered_share:.0%} of the query"
    )


def _heading(rank: int, example_id: str, label: str | None) -> str:
    parts = [str(rank), shortened(example_id, _ID_WIDTH), shortened(label or "", _LABEL_WIDTH)]
    return " ".join(parts).rstrip()


def _blocks(widths: Sequence[int], room: int) -> Iterator[tuple[int, int]]:
    """Cut columns into runs that fit; each column takes a space besides its width."""
    first = used = 0
    for i, width in enumerate(widths):
        if i > first and used + 1 + width > room:
            yield first, i
            first, used = i, 0
        used += 1 + width
    if widths:
        yield first, len(widths)


def _cosine(value: float) -> str:
    """Write a cosine in three characters; below zero nothing matches."""
    if value < 0:
        return "<0"
    return "1.0" if value >= 0.995 else f"{value:.2f}"[1:]


def _shade(value: float) -> Style:
    """Give a cell a green background, the stronger the better the match."""
    if value < _SHADED_FROM:
        return Style()
    strength = (min(value, 1.0) - _SHADED_FROM) / (1 - _SHADED_FROM)
    return Style(color="white", bgcolor=f"#00{60 + round(110 * strength):02x}00")
