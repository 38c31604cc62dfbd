"""Sums per arm: exact whatever the order, and kept as bytes that prove to be whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.errors import InvalidInput, InvalidParameter, InvalidShape, StateCorrupt
from kshot.selectors.bandits import outcomes
from kshot.selectors.bandits.addends import Addends
from kshot.selectors.bandits.products import LIMB_BITS, exact_products, packed_places
from kshot.selectors.bandits.snapshots import Snapshot, from_bytes, to_bytes
from kshot.selectors.bandits.sums import SumsState


def random_outcomes(seed, m=60, d=3, arms=4, limit=8.0):
    rng = np.random.default_rng(seed)
    return outcomes(
        [f"arm-{arm}" for arm in rng.integers(0, arms, m)],
        rng.uniform(-limit, limit, (m, d)),
        rng.random(m),
        weights=rng.uniform(0, 8, m),
        times=rng.uniform(0, 100, m),
    )


def exactly(limbs):
    """Return packed sums as Python's integers."""
    low, high = limbs
    return low.astype(object) + high.astype(object) * (1 << LIMB_BITS)


def slow_products(contexts, weights, rewards):
    """One product after another, in integers without bound."""
    d = contexts.shape[1]
    total = [[0] * (d + 1) for _ in range(d)]
    for z, w, r in zip(contexts.tolist(), weights.tolist(), rewards.tolist(), strict=True):
        for i in range(d):
            for j in range(d):
                total[i][j] += w * z[i] * z[j]
            total[i][d] += r * z[i]
    return [total[i][j] for i, j in zip(*packed_places(d), strict=True)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 40), st.integers(1, 5), st.sampled_from([2.0**-10, 1.0, 8.0]))
def test_products_are_those_of_integers_without_bound(seed, m, d, limit):
    addends = random_outcomes(seed, m, d, limit=limit)
    signs = np.random.default_rng(seed).choice([-1, 1], m)
    weights, rewards = addends.weights * signs, addends.rewards * signs
    found = exact_products(addends.contexts, weights, rewards)
    assert exactly(found).tolist() == slow_products(addends.contexts, weights, rewards)
    low, _ = found
    assert ((low >= 0) & (low < 1 << LIMB_BITS)).all()


def test_the_largest_outcomes_there_are_sum_exactly():
    m = 3000
    addends = outcomes(["a"] * m, np.full((m, 2), -8.0), np.ones(m), weights=np.full(m, 8.0))
    state = SumsState(2).fold(addends)
    # 8 * 8 * 8 in units of 2**-42, and 8 * 1 * -8.
    gram, moment = m * 512 * 2**42, -m * 64 * 2**42
    assert exactly(state.arms["a"].products).tolist() == [gram, gram, moment, gram, moment]


def test_products_beyond_what_is_exact_are_refused():
    with pytest.raises(InvalidParameter, match=r"2\*\*53"):
        exact_products(np.array([[1 << 19]]), np.array([1 << 15]), np.array([0]))


def test_a_view_has_natural_units():
    contexts = np.array([[0.5, 1.0], [-2.0, 1.0]])
    state = SumsState(2).fold(
        outcomes(["a", "a"], contexts, np.array([0.25, 1.0]), weights=np.array([2, 0.5]))
    )
    view = state.view("a")
    assert view is not None
    # w = 2, .5 and r = .25, 1: sum w = 2.5; sum w r = .5 + .5; sum w r^2 = .125 + .5.
    assert (view.n, view.weight, view.reward, view.square) == (2, 2.5, 1.0, 0.625)
    # 2 * .25 + .5 * 4 = 2.5; 2 * .5 - .5 * 2 = 0; .5 * .5 - 2 * .5 = -.75.
    assert view.gram.tolist() == [[2.5, 0.0], [0.0, 2.5]]
    assert view.moment.tolist() == [-0.75, 1.0]
    assert view.squared_gram is None
    assert state.view("b") is None


def test_a_summary_has_weighted_mean_and_variance():
    state = SumsState().fold(outcomes(["a"] * 3, np.empty((3, 0)), np.array([0.25, 0.5, 0.5])))
    (summary,) = state.summaries().values()
    assert (summary.n, summary.weight) == (3, 3.0)
    assert summary.mean == pytest.approx(1.25 / 3, abs=1e-15)
    assert summary.variance == pytest.approx(0.5625 / 3 - (1.25 / 3) ** 2, abs=1e-15)


def test_equal_rewards_have_no_variance_at_all():
    state = SumsState().fold(outcomes(["a"] * 7, np.empty((7, 0)), np.full(7, 0.3), weights=np.full(7, 0.7)))
    assert state.summaries()["a"].variance == 0.0


def test_an_arm_of_no_weight_has_no_mean():
    state = SumsState().fold(outcomes(["a"], np.empty((1, 0)), np.array([0.3]), weights=np.zeros(1)))
    assert state.summaries()["a"].mean is None
    assert state.events == 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_order_batches_and_parts_leave_no_trace(seed, random):
    addends = random_outcomes(seed)
    whole = SumsState(3).fold(addends).to_bytes()
    order = list(range(len(addends)))
    random.shuffle(order)
    cuts = sorted(random.sample(range(len(order) + 1), 3))
    state, other = SumsState(3), SumsState(3)
    for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True):
        if random.random() < 0.5:
            state = state.fold(addends.take(order[start:end]))
        else:
            other = other.fold(addends.take(order[start:end]))
    assert state.merge(other).to_bytes() == whole
    assert other.merge(state).to_bytes() == whole


def test_what_is_taken_back_leaves_nothing_behind():
    first, second = random_outcomes(1), random_outcomes(2)
    state = SumsState(3).fold(first)
    assert state.fold(second).fold(-second).to_bytes() == state.to_bytes()
    assert state.fold(-first).to_bytes() == SumsState(3).to_bytes()


def test_arms_without_news_are_shared():
    state = SumsState(3).fold(random_outcomes(1))
    later = state.fold(outcomes(["arm-1", "new"], np.ones((2, 3)), np.ones(2)))
    assert later.arms["arm-0"] is state.arms["arm-0"]
    assert later.arms["arm-1"] is not state.arms["arm-1"]
    assert "new" not in state.arms


def test_other_features_are_refused():
    with pytest.raises(InvalidShape, match="contexts"):
        SumsState(2).fold(random_outcomes(1))
    with pytest.raises(InvalidInput, match="cannot be merged"):
        SumsState(2).merge(SumsState(3))
    with pytest.raises(InvalidInput, match="cannot be merged"):
        SumsState(2).merge(SumsState(2, "other"))


def test_a_state_without_contexts_takes_any():
    addends = random_outcomes(1)
    state = SumsState().fold(addends)
    assert state.events == len(addends)
    assert state.arms["arm-0"].products[0].shape == (0,)


def test_a_snapshot_of_the_first_layout_is_read():
    blob = bytes.fromhex(FIRST_LAYOUT)
    contexts = np.array([[0.5, 1.0], [-0.25, 1.0], [8.0, 1.0]])
    rewards, weights = np.array([0.5, 0.0, 1.0]), np.array([1.0, 2.0, 0.5])
    addends = outcomes(["b", "a", "b"], contexts, rewards, weights=weights)
    assert SumsState.from_bytes(blob).to_bytes() == SumsState(2).fold(addends).to_bytes()


def test_every_damaged_byte_is_noticed():
    blob = SumsState(2).fold(random_outcomes(3, d=2)).to_bytes()
    assert SumsState.from_bytes(blob).to_bytes() == blob
    for at in range(len(blob)):
        with pytest.raises(StateCorrupt):
            SumsState.from_bytes(blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :])
    for end in range(0, len(blob), 7):
        with pytest.raises(StateCorrupt):
            SumsState.from_bytes(blob[:end])


def test_snapshots_of_other_kinds_and_later_layouts_are_refused():
    blob = to_bytes(Snapshot("sums", 9, {}, []))
    with pytest.raises(StateCorrupt, match="layout 9, known 1"):
        from_bytes(blob, "sums", (1,))
    with pytest.raises(StateCorrupt, match="wanted 'other'"):
        from_bytes(blob, "other", (9,))
    with pytest.raises(TypeError, match="float32"):
        to_bytes(Snapshot("sums", 1, {}, [np.zeros(2, np.float32)]))


def test_addends_of_no_outcome_change_nothing():
    nothing = random_outcomes(1).take([])
    assert isinstance(nothing, Addends)
    assert SumsState(3).fold(nothing).to_bytes() == SumsState(3).to_bytes()


FIRST_LAYOUT = (
    "6b73686f74707374a20000007b22617272617973223a5b5b223c6938222c5b322c322c355d5d5d2c22686561646572223a7b"
    "2261726d73223a5b5b2261222c312c323034382c302c305d2c5b2262222c322c313533362c36373130383836342c33323938"
    "3533343838333332385d5d2c2264696d656e73696f6e223a322c226665617475726573223a22636f6e74657874227d2c226b"
    "696e64223a2273756d73222c2276657273696f6e223a317d0000000080000000000000000000000000000000000000000000"
    "00000000000000000000000000000000000000000000feffffffffffffff0000000000000000080000000000000000000000"
    "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000810000000000"
    "000012000000000000001100000000000000060000000000000004000000000000008da69251eed77ea9c426ef39f51d2ece"
    "da7345eaaa79d594ec38866f91d3510d"
)
