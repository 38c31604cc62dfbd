"""Uniform and fixed: what they serve, whatever the outcomes."""

import numpy as np
import pytest

from kshot.errors import InvalidParameter
from kshot.selectors.bandits import ArmPrior, Situation, outcomes
from kshot.selectors.bandits.fixed import Fixed
from kshot.selectors.bandits.uniform import Uniform


def asked(arms="abc", **more):
    return Situation(tuple(arms), np.empty(0), **more)


def told(policy):
    addends = outcomes(["c", "c", "b"], np.empty((3, 0)), np.array([1.0, 0.5, 0.0]))
    return policy.fold(policy.init(0), addends)


def test_uniform_reports_means_and_ignores_them():
    choice = Uniform().choose(told(Uniform()), asked(priors={"a": ArmPrior(0.9, 3)}))
    assert choice.probabilities.tolist() == [1 / 3] * 3
    assert choice.means == pytest.approx([0.9, 0, 0.75])
    assert choice.widths.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("policy", "arms", "shares"),
    [
        (Fixed(), "abc", [1, 0, 0]),
        (Fixed(arm="b"), "abc", [0, 1, 0]),
        (Fixed(arm="b"), "acd", [1, 0, 0]),
        (Fixed(weights={"a": 1, "c": 3}), "abc", [0.25, 0, 0.75]),
        (Fixed(weights={"a": 1, "b": 2, "c": 3}), "ab", [1 / 3, 2 / 3]),
        (Fixed(weights={"c": 3}), "ab", [1, 0]),
        (Fixed(weights={"a": 1e308, "b": 1e308}), "ab", [0.5, 0.5]),
    ],
)
def test_fixed_serves_its_shares_of_what_may_be_served(policy, arms, shares):
    assert policy.choose(told(policy), asked(arms)).probabilities == pytest.approx(shares)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weights": {"a": -1}}, "weights: received -1, allowed finite numbers >= 0"),
        ({"weights": {"a": float("nan")}}, "received nan"),
        ({"weights": {"a": float("inf")}}, "received inf"),
        ({"weights": {"a": 0, "b": 0}}, "weights: are all 0"),
        ({"weights": {}}, "weights: are all 0"),
        ({"arm": "a", "weights": {"a": 1}}, "beside arm, allowed one of both"),
    ],
)
def test_shares_that_are_none_are_refused(fields, message):
    with pytest.raises(InvalidParameter, match=message):
        Fixed(**fields)
