import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from kshot.index import tokens as tokens_module
from kshot.index.tokens import TokenPart, TokenView, decode
from tests import oracles
from tests.strategies import grid


def test_decoding_is_exact_for_every_finite_number():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    assert len(finite) == 63488
    for columns in (1, 31, 2048):
        decoded = decode(finite.reshape(-1, columns))
        assert decoded.dtype == np.float32
        # The bits, so that -0 counts as itself.
        assert decoded.tobytes() == finite.astype(np.float32).tobytes()


def test_decoding_reads_slices_and_no_rows_at_all():
    every = np.arange(24, dtype=np.float16).reshape(6, 4)
    assert decode(every[1::2]).tolist() == every[1::2].tolist()
    assert decode(every[:, ::2]).tolist() == every[:, ::2].tolist()
    assert decode(every[:0]).shape == (0, 4)


def test_decoding_reads_a_memory_map(tmp_path):
    every = np.linspace(-1, 1, 24, dtype=np.float16).reshape(6, 4)
    np.save(tmp_path / "tokens.npy", every)
    mapped = np.load(tmp_path / "tokens.npy", mmap_mode="r")
    assert decode(mapped).tolist() == every.tolist()


@st.composite
def views(draw, d=2):
    """Give a view over several parts, some decoded, and the tokens of each row."""
    rows, parts = [], []
    for _ in range(draw(st.integers(1, 4))):
        own = [
            draw(grid((draw(st.integers(1, 4)), d), -4, 4, 0.25)).astype(np.float32)
            for _ in range(draw(st.integers(0, 5)))
        ]
        flat = np.concatenate([np.empty((0, d), np.float32), *own]).astype(np.float16)
        offsets = np.cumsum([0, *map(len, own)], dtype=np.int64)
        parts.append(TokenPart(flat, offsets, decode(flat) if draw(st.booleans()) else None))
        rows += own
    return TokenView(parts), rows


@given(
    view=views(),
    data=st.data(),
    chunk_tokens=st.sampled_from([1, 3, 16_384]),
    chunk_rows=st.sampled_from([1, 2, 1024]),
)
def test_partial_scores_equal_a_loop_over_tokens(view, data, chunk_tokens, chunk_rows):
    view, rows_of_tokens = view
    assert len(view) == len(rows_of_tokens)
    assert view.count == sum(map(len, rows_of_tokens))
    query = data.draw(grid((data.draw(st.integers(0, 3)), 2), -4, 4, 0.25)).astype(np.float32)
    weights = np.full(len(query), 0.5, np.float32)
    rows = np.flatnonzero(data.draw(st.lists(st.booleans(), min_size=len(view), max_size=len(view))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens_module, "_CHUNK_TOKENS", chunk_tokens)
        patch.setattr(tokens_module, "_CHUNK_ROWS", chunk_rows)
        found = view.partial_scores(query, weights, rows)
    assert (found.shape, found.dtype) == ((len(rows), len(query)), np.float32)
    # Quarters, so every product and sum is exact.
    assert found.tolist() == oracles.maxsim(query, [rows_of_tokens[row] for row in rows], weights).tolist()


@given(view=views(), data=st.data())
def test_take_gives_the_tokens_of_the_rows_one_after_the_other(view, data):
    view, rows_of_tokens = view
    if not rows_of_tokens:
        return
    rows = sorted(data.draw(st.sets(st.integers(0, len(rows_of_tokens) - 1), min_size=1)))
    found, offsets = view.take(np.array(rows))
    assert found.tolist() == [token for row in rows for token in rows_of_tokens[row].tolist()]
    assert offsets.tolist() == np.cumsum([0, *(len(rows_of_tokens[row]) for row in rows)]).tolist()


@pytest.mark.parametrize("is_decoded", [False, True])
@pytest.mark.parametrize("count", [1, 40, 60, 100])
def test_a_query_of_special_tokens_only_has_scores_of_no_tokens(is_decoded, count):
    flat = np.ones((200, 8), np.float16)
    part = TokenPart(flat, np.arange(0, 201, 2), decode(flat) if is_decoded else None)
    empty = np.empty((0, 8), np.float32)
    assert TokenView([part]).partial_scores(empty, np.empty(0, np.float32), np.arange(count)).shape == (
        count,
        0,
    )


def test_real_sized_scores_are_the_same_however_many_rows_are_asked_for():
    rng = np.random.default_rng(3)
    lengths = rng.integers(1, 40, 300)
    offsets = np.cumsum([0, *lengths], dtype=np.int64)
    flat = rng.standard_normal((offsets[-1], 64)).astype(np.float16)
    view = TokenView(
        [
            TokenPart(flat[: offsets[200]], offsets[:201]),
            TokenPart(flat[offsets[200] :], offsets[200:] - offsets[200]),
        ]
    )
    query = rng.standard_normal((7, 64)).astype(np.float32)
    weights = np.full(7, 1 / 7, np.float32)
    whole = view.partial_scores(query, weights, np.arange(300))
    wide = flat.astype(np.float64)
    wanted = [
        [(wide[offsets[z] : offsets[z + 1]] @ x).max() / 7 for x in query.astype(np.float64)]
        for z in range(300)
    ]
    assert_allclose(whole, wanted, rtol=1e-5, atol=1e-5)
    for rows in (np.arange(0, 300, 7), np.arange(150, 290), np.array([199, 200])):
        assert_allclose(view.partial_scores(query, weights, rows), whole[rows], rtol=1e-6, atol=1e-6)
