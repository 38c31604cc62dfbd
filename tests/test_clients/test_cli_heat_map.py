"""The heat map as it appears: what stands where, at any width, with and without colour."""

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from kshot.clients.cli.heat_map import MOST_TOKENS, heat_map
from kshot.schemas.coverage import Coverage, DemonstrationCoverage, QueryToken


def coverage_of(words: list[str], id_to_scores: dict[str, list[float]]) -> Coverage:
    tokens = []
    for i, word in enumerate(words):
        similarity = max(scores[i] for scores in id_to_scores.values())
        best = next(key for key, scores in id_to_scores.items() if scores[i] == similarity)
        tokens.append(
            QueryToken(
                start=0,
                end=len(word),
                text=word,
                weight=1 / len(words),
                best_id=best,
                similarity=similarity,
                covered=similarity >= 0.6,
            )
        )
    return Coverage(
        text=" ".join(words),
        covered_from=0.6,
        covered_share=sum(token.covered for token in tokens) / max(len(words), 1),
        tokens=tokens,
        demonstrations=[
            DemonstrationCoverage(id=key, scores=scores, spans=[]) for key, scores in id_to_scores.items()
        ],
    )


def drawn(coverage: Coverage, width: int = 80, labels: dict[str, str | None] | None = None) -> list[str]:
    return [line.plain.rstrip() for line in heat_map(coverage, labels or {}, width)]


TWO = coverage_of(["where", "is", "it", "?"], {"t1": [0.934, 0.2, 1.0, -0.1], "t2": [0.5, 0.3, 0.61, 0.004]})


def test_rows_are_demonstrations_and_columns_are_tokens():
    _, *lines, last = drawn(TWO, labels={"t1": "order", "t2": None})
    assert lines == [
        "           where is   it   ?",
        "1 t1 order .93*  .20  1.0* <0",
        "2 t2       .50   .30  .61  .00",
    ]
    assert last == "* best, where a token counts as covered (from 0.6): 50% of the query"


def test_a_narrow_terminal_gets_several_blocks():
    _, *lines, _ = drawn(TWO, width=16)
    assert lines == [
        "     where is",
        "1 t1 .93*  .20",
        "2 t2 .50   .30",
        "",
        "     it   ?",
        "1 t1 1.0* <0",
        "2 t2 .61  .00",
    ]


@pytest.mark.parametrize("width", [1, 7, 20, 33, 80, 200])
def test_every_cell_is_drawn_once_and_no_line_is_too_wide(width: int):
    words = [f"word{i}" for i in range(30)]
    scores = [i / 100 for i in range(30)]
    lines = drawn(coverage_of(words, {"t1": scores}), width)[1:-1]
    cells = " ".join(lines).split()
    assert [cell for cell in cells if cell.startswith("word")] == words
    assert [cell for cell in cells if cell.startswith(".")] == [f"{score:.2f}"[1:] for score in scores]
    if width >= 20:
        assert max(map(cell_len, lines)) <= width


def test_a_long_query_is_cut_and_says_so():
    words = ["w"] * (MOST_TOKENS + 7)
    lines = drawn(coverage_of(words, {"t1": [0.7] * len(words)}), 1000)
    assert lines[1].split() == ["w"] * MOST_TOKENS
    assert "7 more tokens are not shown" in lines
    assert not any("not shown" in line for line in drawn(TWO))


def test_wide_characters_keep_the_columns_in_place():
    lines = drawn(coverage_of(["何処", "is", "です"], {"t1": [0.1, 0.2, 0.3]}))
    heading, row = lines[1:3]
    assert heading == "     何処 is   です"
    assert [cell_len(heading[: heading.index(word)]) for word in ("何処", "is", "です")] == [
        row.index(cell) for cell in (".10", ".20", ".30")
    ]


def test_long_ids_labels_and_tokens_are_shortened():
    long = coverage_of(["w" * 50], {"i" * 50: [0.5]})
    lines = drawn(long, 200, labels={"i" * 50: "l" * 50})
    assert lines[1].split() == ["w" * 11 + "…"]
    assert lines[2].split() == ["1", "i" * 11 + "…", "l" * 15 + "…", ".50"]
    (narrow,) = drawn(long, 30)[2:-1]
    assert narrow.split() == ["1", "i" * 7 + "…", ".50"], "a third of the width at most"


def test_tokens_cannot_steer_the_terminal():
    lines = drawn(coverage_of(["\x1b[31m", "\n"], {"t1": [0.5, 0.5]}))
    assert not any("\x1b" in line or "\n" in line for line in lines)
    assert lines[1].split() == ["�[31m", "_"]


def test_a_better_match_is_shaded_more():
    coverage = coverage_of(["a", "b", "c"], {"t1": [0.2, 0.5, 0.9]})
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=80)
    row = list(heat_map(coverage, {}, 80))[2]
    styles = [
        style.bgcolor.triplet.green
        for span in row.spans
        if (style := console.get_style(span.style)).bgcolor is not None and style.bgcolor.triplet is not None
    ]
    assert len(styles) == 2, "a poor match is not shaded"
    assert styles[0] < styles[1]


def test_a_query_without_tokens_draws_no_table():
    coverage = Coverage(
        text="",
        covered_from=0.6,
        covered_share=0.0,
        tokens=[],
        demonstrations=[DemonstrationCoverage(id="t1", scores=[], spans=[])],
    )
    assert len(drawn(coverage)) == 2
