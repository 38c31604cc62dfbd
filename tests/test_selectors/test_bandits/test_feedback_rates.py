"""An arm whose outcomes are missing more often is seen."""

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from kshot.errors import InvalidParameter
from kshot.selectors.bandits.feedback_rates import feedback_rates


def test_it_is_the_test_of_independence():
    decided, answered = {"a": 120, "b": 80, "c": 300}, {"a": 30, "b": 35, "c": 110}
    table = [[answered[arm], decided[arm] - answered[arm]] for arm in decided]
    expected = chi2_contingency(table, correction=False)
    found = feedback_rates(decided, answered)
    np.testing.assert_allclose([found.statistic, found.p_value], [expected[0], expected[1]], rtol=1e-9)
    assert found.rates["a"] == 0.25


def test_an_arm_with_fewer_outcomes_raises_the_alarm_and_equal_ones_do_not():
    rng = np.random.default_rng(0)
    alarms = {"equal": 0, "fewer": 0}
    for _ in range(400):
        for name, rates in (("equal", (0.6, 0.6, 0.6)), ("fewer", (0.6, 0.6, 0.4))):
            came = dict(zip("abc", rng.binomial(200, rates).tolist(), strict=True))
            alarms[name] += feedback_rates(dict.fromkeys("abc", 200), came).p_value < 0.01
    # 4 expected, standard deviation 2.
    assert alarms["equal"] <= 12
    assert alarms["fewer"] > 0.9 * 400


@pytest.mark.parametrize(
    ("decided", "answered"),
    [({}, {}), ({"a": 9}, {"a": 3}), ({"a": 9, "b": 4}, {}), ({"a": 9, "b": 0}, {"a": 9})],
)
def test_where_there_is_nothing_to_compare_there_is_no_alarm(decided, answered):
    assert feedback_rates(decided, answered).p_value == 1.0


@pytest.mark.parametrize("answered", [{"a": 4}, {"a": -1}, {"b": 1}])
def test_there_are_no_more_outcomes_than_decisions(answered):
    with pytest.raises(InvalidParameter, match="outcomes of"):
        feedback_rates({"a": 3}, answered)
