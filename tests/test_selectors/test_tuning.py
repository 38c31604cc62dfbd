"""Weights by neighbour agreement: each part against its slow version, and silence where there is nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors.tuning import (
    FOLDS,
    Agreements,
    Trial,
    agreement,
    choose,
    deal,
    intervals,
    standardised_rows,
    weight_grid,
)
from tests import oracles
from tests.strategies import grid


def generator(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def slow_agreement(scores, same_label, allowed, k):
    """Rank each query's allowed rows one by one."""
    shares = []
    for i in range(len(scores)):
        rows = [j for j in range(len(scores[i])) if allowed[i][j]]
        ranked = [rows[place] for place in oracles.top_k([scores[i][j] for j in rows], k)]
        shares.append(sum(same_label[i][j] for j in ranked) / len(ranked) if ranked else 0.0)
    return shares


def noisy_trial(seed, q=60, labels=3, d=6):
    """Labels that have nothing to do with the rows, and three signals that agree in part."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, labels, q)
    allowed = ~np.eye(q, dtype=bool)
    base = rng.standard_normal((q, d))
    signals = []
    for _ in range(3):
        vectors = base + rng.standard_normal((q, d))
        signals.append(standardised_rows(vectors @ vectors.T, allowed))
    trial = Trial(codes[:, None] == codes, allowed, deal(q, rng), 5)
    return trial, signals


@pytest.mark.parametrize("n_signals", [1, 2, 3])
def test_the_grid_holds_every_direction_once_and_the_simplest_first(n_signals):
    weights = weight_grid(n_signals)
    assert len(weights) == 3**n_signals - 2**n_signals
    assert (weights.max(axis=1) == 1).all()
    assert len({tuple(row) for row in weights.tolist()}) == len(weights)
    counts = np.count_nonzero(weights, axis=1).tolist()
    assert counts == sorted(counts)
    assert weights[:n_signals].tolist() == np.eye(n_signals).tolist()


def test_rows_are_standardised_over_what_their_query_may_choose():
    allowed = np.array([[False, True, True], [True, True, True]])
    found = standardised_rows([[99.0, 1.0, 3.0], [2.0, 2.0, 2.0]], allowed)
    # Mean 2 and deviation 1 of the first query come from its last two rows; the second query's never vary.
    assert found.tolist() == [[97.0, -1.0, 1.0], [0.0, 0.0, 0.0]]
    assert found.dtype == np.float32


def test_a_signal_that_rounding_alone_varies_tells_nothing():
    values = np.full((1, 7), 1 / 3) + np.array([0, 1, -1, 0, 1, 0, 0]) * 2.0**-54
    assert not standardised_rows(values, np.ones((1, 7), dtype=bool)).any()


def test_a_query_that_may_choose_nothing_is_standardised_to_zeros():
    assert not standardised_rows([[1.0, 2.0]], np.zeros((1, 2), dtype=bool)).any()


def test_agreement_by_hand():
    scores = [[0.9, 0.8, 0.7, 0.1], [0.1, 0.2, 0.3, 0.4]]
    same = np.array([[True, False, True, True], [False, False, False, True]])
    everything = np.ones((2, 4), dtype=bool)
    assert agreement(scores, same, everything, 2).tolist() == [0.5, 0.5]
    assert agreement(scores, same, everything, 3).tolist() == pytest.approx([2 / 3, 1 / 3])
    assert agreement(scores, same, everything, 99).tolist() == [0.75, 0.25]


def test_rows_that_are_not_allowed_never_count():
    # The query itself is its best row by far, and of its label; nobody else is.
    scores = np.array([[9.0, 3.0, 2.0, 1.0]])
    same = np.array([[True, False, False, False]])
    assert agreement(scores, same, np.ones((1, 4), dtype=bool), 2).tolist() == [0.5]
    assert agreement(scores, same, np.array([[False, True, True, True]]), 2).tolist() == [0.0]
    assert agreement(scores, same, np.zeros((1, 4), dtype=bool), 2).tolist() == [0.0]


def test_ties_at_the_cut_go_to_the_lowest_row():
    same = np.array([[False, True, True, True]])
    everything = np.ones((1, 4), dtype=bool)
    assert agreement(np.zeros((1, 4)), same, everything, 1).tolist() == [0.0]
    assert agreement(np.zeros((1, 4)), same, everything, 2).tolist() == [0.5]


@given(data=st.data(), q=st.integers(1, 4), n=st.integers(1, 7), k=st.integers(1, 8))
def test_agreement_equals_ranking_one_by_one(data, q, n, k):
    scores = data.draw(grid((q, n), -2, 2))
    same, allowed = (data.draw(grid((q, n), 0, 1)).astype(bool) for _ in range(2))
    found = agreement(scores, same, allowed, k)
    np.testing.assert_allclose(found, slow_agreement(scores, same, allowed, k), rtol=0, atol=1e-15)


def test_queries_without_rows_agree_with_nothing():
    none = np.ones((2, 0), dtype=bool)
    assert agreement(np.empty((2, 0)), none, none, 3).tolist() == [0.0, 0.0]


def test_senseless_input_is_refused():
    mask = np.ones((1, 2), dtype=bool)
    with pytest.raises(InvalidParameter, match="k is 0, allowed >= 1"):
        agreement([[1.0, 2.0]], mask, mask, 0)
    with pytest.raises(InvalidShape, match="only finite"):
        agreement([[1.0, np.nan]], mask, mask, 1)
    with pytest.raises(InvalidShape, match="same_label has shape"):
        agreement([[1.0]], mask, mask, 1)
    with pytest.raises(InvalidShape, match="only finite"):
        standardised_rows([[np.inf, 1.0]], mask)
    with pytest.raises(InvalidParameter, match="4 queries, allowed 5 or more"):
        deal(4, generator())


@given(q=st.integers(FOLDS, 40), seed=st.integers(0, 99))
def test_folds_are_of_one_size_give_or_take_one_query(q, seed):
    sizes = np.bincount(deal(q, generator(seed)), minlength=FOLDS)
    assert sizes.sum() == q
    assert np.ptp(sizes) <= 1


@settings(max_examples=25)
@given(seed=st.integers(0, 999), with_queries_as_rows=st.booleans())
def test_candidates_are_measured_as_one_by_one(seed, with_queries_as_rows):
    rng = np.random.default_rng(seed)
    q, n, k = 9, 12, 3
    signals = [rng.integers(-2, 3, (q, n)).astype(np.float32) for _ in range(2)]
    same = rng.random((q, n)) < 0.4
    allowed = np.ones((q, n), dtype=bool)
    if with_queries_as_rows:
        # Query i is row i; row 10 belongs together with queries 0 and 1.
        allowed[np.arange(q), np.arange(q)] = False
        allowed[:2, 10] = False
    trial = Trial(same, allowed, deal(q, rng), k)
    weights = weight_grid(2)
    found = trial.agreements(signals, weights)
    assert found.whole.shape == (5, q)
    for c, (first, second) in enumerate(weights.tolist()):
        scores = first * signals[0] + second * signals[1]
        np.testing.assert_allclose(found.whole[c], slow_agreement(scores, same, allowed, k))
        for number in range(FOLDS):
            hidden = [any(not allowed[i, j] for i in range(q) if trial.fold[i] == number) for j in range(n)]
            visible = allowed & ~np.array(hidden)
            rest = trial.fold != number
            wanted = slow_agreement(scores[rest], same[rest], visible[rest], k)
            np.testing.assert_allclose(found.apart[number, c, rest], wanted)


def test_the_overlap_is_the_share_of_rows_that_belong_to_queries():
    allowed = np.ones((5, 8), dtype=bool)
    trial = Trial(allowed, allowed, deal(5, generator()), 1)
    assert trial.overlap == 0
    allowed = allowed.copy()
    allowed[0, :2] = False
    allowed[3, 2] = False
    allowed[4, 2] = False
    assert Trial(allowed, allowed, trial.fold, 1).overlap == 3 / 8


def candidates(*rows):
    """Agreements of candidates whose queries are no rows."""
    whole = np.array(rows, dtype=np.float64)
    return Agreements(whole, np.broadcast_to(whole, (FOLDS, *whole.shape)))


def apart_trial(q):
    nothing = np.ones((q, 1), dtype=bool)
    return Trial(nothing, nothing, deal(q, generator()), 1)


def test_a_candidate_that_is_better_everywhere_is_chosen():
    found = choose(candidates([0.5] * 50, [0.25] * 50, [0.75] * 50), apart_trial(50), 0, generator())
    assert (found.best, found.is_better) == (2, True)
    assert found.held_out.tolist() == [0.75] * 50
    assert (found.gain.mean, found.gain.low, found.gain.high) == pytest.approx((0.25, 0.25, 0.25))


def test_equal_candidates_leave_the_first_and_a_gain_of_nothing():
    rng = np.random.default_rng(0)
    row = rng.integers(0, 9, 60) / 8
    found = choose(candidates(row, row, row), apart_trial(60), 0, generator())
    assert (found.best, found.is_better) == (0, False)
    assert (found.gain.mean, found.gain.low, found.gain.high) == (0, 0, 0)


def test_what_is_better_on_average_but_not_beyond_noise_is_not_better():
    row = np.tile([1.0, 0.0], 25)
    other = np.roll(row, 1)
    other[0] = 1.0
    found = choose(candidates(row, other), apart_trial(50), 0, generator())
    assert found.best == 1
    assert not found.is_better
    assert found.gain.low < 0 < found.gain.high


@settings(max_examples=30)
@given(seed=st.integers(0, 999))
def test_held_out_agreements_are_of_what_the_other_folds_chose(seed):
    rng = np.random.default_rng(seed)
    q, m = 23, 4
    agreements = Agreements(rng.integers(0, 4, (m, q)) / 4, rng.integers(0, 4, (FOLDS, m, q)) / 4)
    nothing = np.ones((q, 1), dtype=bool)
    fold = deal(q, rng)
    found = choose(agreements, Trial(nothing, nothing, fold, 1), 1, generator(seed))
    for i in range(q):
        others = [j for j in range(q) if fold[j] != fold[i]]
        means = [sum(agreements.apart[fold[i], c, j] for j in others) for c in range(m)]
        assert found.held_out[i] == agreements.whole[oracles.top_k(means, 1)[0], i]
    assert found.best == oracles.top_k(agreements.whole.sum(axis=1).tolist(), 1)[0]
    assert found.gain.mean == pytest.approx(np.mean(found.held_out - agreements.whole[1]))
    assert found.is_better == (found.gain.low > 0)


def test_a_reference_that_is_no_candidate_is_refused():
    with pytest.raises(InvalidParameter, match="reference is 2, allowed 0 to 1"):
        choose(candidates([1.0] * 5, [1.0] * 5), apart_trial(5), 2, generator())


def test_the_same_seed_gives_the_same_choice():
    trial, signals = noisy_trial(1)
    agreements = trial.agreements(signals, weight_grid(3))
    first, second = (choose(agreements, trial, 0, generator(7)) for _ in range(2))
    assert first.gain == second.gain
    assert first.held_out.tolist() == second.held_out.tolist()


def test_intervals_are_those_of_a_mean_and_wider_where_queries_are_rows():
    rng = np.random.default_rng(3)
    values = rng.random((2, 400))
    apart, together = (intervals(values, generator(), overlap=overlap) for overlap in (0.0, 1.0))
    for row, one, other in zip(values, apart, together, strict=True):
        error = row.std() / 20
        assert one.mean == other.mean == pytest.approx(row.mean())
        assert (one.high - one.low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.06)
        assert (other.high - other.low) / (one.high - one.low) == pytest.approx(np.sqrt(2), abs=0.08)


def test_the_first_candidates_and_joined_ones_are_the_same_numbers():
    trial, signals = noisy_trial(2, q=20)
    weights = weight_grid(3)
    whole = trial.agreements(signals, weights)
    joined = Agreements.joined([trial.agreements(signals, part) for part in (weights[:4], weights[4:])])
    assert joined.whole.tolist() == whole.whole.tolist()
    assert joined.apart.tolist() == whole.apart.tolist()
    assert joined.first(4).apart.shape == (FOLDS, 4, 20)
    assert joined.first(4).whole.tolist() == whole.whole[:4].tolist()


def test_a_signal_that_knows_the_labels_is_found_among_noise():
    trial, signals = noisy_trial(5)
    knowing = np.where(trial.same_label, 1.0, 0.0) + generator().standard_normal(trial.allowed.shape)
    signals[1] = standardised_rows(knowing, trial.allowed)
    weights = weight_grid(3)
    found = choose(trial.agreements(signals, weights), trial, 0, generator())
    assert found.is_better
    assert weights[found.best, 1] == 1


@pytest.mark.slow
def test_labels_that_mean_nothing_promise_nothing():
    weights = np.concatenate([[[1.0, 1.0, 0.0]], weight_grid(3)])
    gains, naive, false_alarms = [], [], 0
    trials = 150
    for seed in range(trials):
        trial, signals = noisy_trial(seed)
        agreements = trial.agreements(signals, weights)
        found = choose(agreements, trial, 0, generator(seed))
        gains.append(found.gain.mean)
        false_alarms += found.is_better
        # The same where the labels of a fold's queries take part in choosing for that fold.
        leaky = Agreements(agreements.whole, np.broadcast_to(agreements.whole, agreements.apart.shape))
        naive.append(choose(leaky, trial, 0, generator(seed)).gain.mean)
    # Three standard errors: choosing gains nothing, unless the folds leak.
    assert np.mean(gains) < 3 * np.std(gains) / np.sqrt(trials)
    assert np.mean(naive) > 3 * np.std(naive) / np.sqrt(trials)
    # One sided 0.5 %, and three standard errors of the binomial.
    assert false_alarms <= trials * 0.005 + 3 * np.sqrt(trials * 0.005 * 0.995)
