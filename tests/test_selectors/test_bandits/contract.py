"""Every registered policy, and outcomes and situations to try it with."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from kshot.selectors.bandits import POLICIES, Situation, outcomes, snapped

NAMES = POLICIES.names()
# Policies under parameters that take another way through them.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "beta_thompson that forgets": ("beta_thompson", {"half_life_s": 40.0}),
    "epsilon_greedy without context": ("epsilon_greedy", {"contextual": False}),
    "epsilon_greedy that forgets": ("epsilon_greedy", {"half_life_s": 40.0, "contextual": False}),
    "fixed shares": ("fixed", {"weights": {"arm-0": 2.0, "arm-2": 1.0}}),
    "lin_thompson that forgets": ("lin_thompson", {"half_life_s": 40.0}),
    "lin_ucb hybrid": ("lin_ucb", {"hybrid": True, "crossed": 3}),
    "lin_ucb hybrid that forgets": ("lin_ucb", {"hybrid": True, "crossed": 3, "half_life_s": 40.0}),
    "lin_ucb that forgets": ("lin_ucb", {"half_life_s": 40.0}),
    "pak_ucb of products": ("pak_ucb", {"kernel": "polynomial", "degree": 2}),
    "rff_thompson that forgets": ("rff_thompson", {"components": 16, "half_life_s": 40.0}),
    "rff_ucb that forgets": ("rff_ucb", {"components": 16, "half_life_s": 40.0}),
    "square_cb that eliminates": ("square_cb", {"elimination": 1.0}),
    "square_cb that forgets": ("square_cb", {"half_life_s": 40.0}),
    "ucb1 that forgets": ("ucb1", {"half_life_s": 40.0}),
}
ALL = (*NAMES, *VARIANTS)
# Their arms share what they learn.
SHARING = {name for name in ALL if "hybrid" in name}
# Their sums are rounded: equal for equal orders only.
FORGETTING = {name for name in ALL if name.endswith("forgets")}
# What arms are expected to earn is no reason for them.
HEEDLESS = {"fixed", "fixed shares", "uniform"}
# They serve what is hard to tell apart, and a penalty may bring an arm nearer to others.
MEASURING = {"track_and_stop"}
EXACT = [name for name in ALL if name not in FORGETTING]

every_policy = pytest.mark.parametrize("name", NAMES)
every_variant = pytest.mark.parametrize("name", ALL)
every_exact_variant = pytest.mark.parametrize("name", EXACT)
every_forgetting_variant = pytest.mark.parametrize("name", sorted(FORGETTING))

D = 4
ARMS = ("arm-0", "arm-1", "arm-2", "arm-3")
VECTORS = {arm: np.array(pair) for arm, pair in zip(ARMS, [[1, 0], [0, 1], [0.5, 0.5], [1, 1]], strict=True)}
INTERCEPT = np.eye(D)[-1]


def made(name) -> Any:
    algorithm, parameters = VARIANTS.get(name, (name, {}))
    cls: Any = POLICIES.get(algorithm)
    return cls(**parameters)


def contexts(rng, m):
    return snapped(np.column_stack([rng.integers(-4, 5, (m, D - 1)) / 4, np.ones(m)]))


def log(seed, m=60, arms=ARMS):
    """Outcomes on a coarse grid, some of them late: equal ones are common."""
    rng = np.random.default_rng(seed)
    return outcomes(
        list(rng.choice(arms, m)),
        contexts(rng, m),
        rng.integers(0, 5, m) / 4,
        weights=rng.choice([0.5, 1.0, 2.0], m),
        times=np.arange(m) - rng.integers(0, 10, m) * 1.0,
    )


def learnt(policy, addends):
    return policy.fold(policy.init(D), addends)


def situation(seed=0, arms=ARMS, **parts):
    context = contexts(np.random.default_rng([seed, 2]), 1)[0]
    return Situation(tuple(arms), parts.pop("context", context), vectors=VECTORS, now=60.0, **parts)


def same(a, b):
    parts = ("probabilities", "means", "widths")
    return a.kind == b.kind and all(np.array_equal(getattr(a, part), getattr(b, part)) for part in parts)


def close(a, b, tolerance=1e-9):
    parts = ("probabilities", "means", "widths")
    return all(np.allclose(getattr(a, part), getattr(b, part), rtol=0, atol=tolerance) for part in parts)


def with_penalty(given, arm, penalty):
    penalties = np.zeros(len(given.arms)) if given.penalties is None else given.penalties.copy()
    penalties[given.arms.index(arm)] = penalty
    return dataclasses.replace(given, penalties=penalties)


@st.composite
def situations(draw):
    """Any of the arms and some new ones, in any situation."""
    arms = tuple(sorted(draw(st.sets(st.sampled_from([*ARMS, "arm", "new", "zz"]), min_size=1))))
    penalties = draw(
        st.none() | st.lists(st.sampled_from([0.0, 0.1, 5.0]), min_size=len(arms), max_size=len(arms))
    )
    pending = draw(st.dictionaries(st.sampled_from(arms), st.integers(0, 9)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return situation(
        draw(st.integers(0, 99)),
        arms,
        penalties=None if penalties is None else np.array(penalties),
        pending={arm: np.rint(contexts(rng, m) * 2**16).astype(np.int64) for arm, m in pending.items()},
    )
