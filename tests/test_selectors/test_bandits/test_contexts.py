"""Features: fixed, versioned, on the grid, with the intercept last."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.arrays import unit_rows
from kshot.errors import InvalidParameter, InvalidShape, StateCorrupt
from kshot.selectors.bandits.contexts import ContextMap, gaussian_map, pca_map, request_map
from kshot.selectors.bandits.grid import grid_features, snapped
from kshot.selectors.bandits.request_features import CategoryFeature, HashedFeature, NumberFeature

FEATURES = (
    NumberFeature("turn", 0.0, 10.0),
    CategoryFeature("tier", ("free", "paid")),
    HashedFeature("language", 4, seed=7),
)


def unit(seed=0, n=1, d=24):
    return unit_rows(np.random.default_rng(seed).standard_normal((n, d)))


def test_a_context_is_components_then_request_then_one():
    made = gaussian_map(24, 5, features=FEATURES)
    e = unit()[0]
    context = made.context(e, {"turn": 10, "tier": "paid"})
    assert len(context) == made.dimension == 5 + 1 + 2 + 4 + 1
    np.testing.assert_allclose(context[:5], made.matrix @ e.astype(np.float64), atol=2**-16)
    assert context[5:].tolist() == [1.0, 0.0, 1.0, 0, 0, 0, 0, 1.0]


@given(st.integers(0, 50), st.booleans())
def test_contexts_lie_on_the_grid(seed, fitted):
    made = pca_map(unit(1, 30), 6) if fitted else gaussian_map(24, 6)
    context = made.context(unit(seed)[0])
    np.testing.assert_array_equal(context, snapped(context))
    np.testing.assert_array_equal(context, np.ldexp(grid_features(context), -16))
    assert context[-1] == 1.0


def test_a_projection_keeps_lengths_and_angles_on_average():
    e = unit(3, 2)
    products = []
    for seed in range(400):
        a, b = (gaussian_map(24, 16, seed=seed).context(row)[:-1] for row in e)
        products.append([a @ a, a @ b])
    # Standard deviations sqrt(2 / 16) and at most that, over sqrt(400): 0.018.
    np.testing.assert_allclose(np.mean(products, axis=0), [1.0, e[0] @ e[1]], atol=4 * 0.018)


def test_principal_components_are_those_of_the_covariance():
    rows = unit(4, 200) * 1.0
    made = pca_map(rows, 3)
    contexts = np.array([made.context(row)[:-1] for row in rows])
    values, vectors = np.linalg.eigh(np.cov(rows.T, bias=True))
    top = vectors[:, ::-1][:, :3].T
    expected = (rows - rows.mean(axis=0)) @ top.T / math.sqrt(values[-3:].sum())
    np.testing.assert_allclose(np.abs(contexts), np.abs(expected), atol=1e-4)
    assert np.square(contexts).sum(axis=1).mean() == pytest.approx(1.0, abs=1e-4)
    many = pca_map(rows, 20).matrix
    assert (many[np.arange(20), np.abs(many).argmax(axis=1)] > 0).all()


def test_the_version_names_the_map():
    maps = [
        gaussian_map(24, 5),
        gaussian_map(24, 5, seed=1),
        gaussian_map(24, 6),
        gaussian_map(25, 5),
        gaussian_map(24, 5, features=FEATURES),
        gaussian_map(24, 5, features=FEATURES[::-1]),
        gaussian_map(24, 5, features=(NumberFeature("turn", 0.0, 9.0),)),
        gaussian_map(24, 5, features=(HashedFeature("language", 4, seed=8),)),
        gaussian_map(24, 5, features=(HashedFeature("language", 4, seed=7),)),
        pca_map(unit(1, 30), 5),
        pca_map(unit(2, 30), 5),
        request_map(FEATURES),
    ]
    assert len({made.version for made in maps}) == len(maps)
    assert gaussian_map(24, 5).version == gaussian_map(24, 5).version


def test_the_map_of_a_seed_is_the_same_everywhere():
    """Frozen: a library that draws other numbers must change the version of features, not their meaning."""
    assert gaussian_map(384, 32).version == "gaussian-33-75d051d4b5ac557e"


@pytest.mark.parametrize(
    "made", [gaussian_map(24, 5, features=FEATURES), pca_map(unit(1, 30), 5), request_map(FEATURES)]
)
def test_a_map_survives_being_saved(made):
    back = ContextMap.from_bytes(made.to_bytes())
    assert back.version == made.version
    assert back.features == made.features
    assert back.to_bytes() == made.to_bytes()
    damaged = bytearray(made.to_bytes())
    damaged[-40] ^= 1
    with pytest.raises(StateCorrupt):
        ContextMap.from_bytes(bytes(damaged))


def test_numbers_are_scaled_and_clipped():
    made = request_map([NumberFeature("turn", 0.0, 10.0)])
    values = [0, 2.5, 5, 10, 99, -99, None, True]
    assert [made.context(None, {"turn": v})[0] for v in values] == [
        -1,
        -0.5,
        0,
        1,
        1,
        -1,
        0,
        snapped(np.array([-0.8]))[0],
    ]


def test_words_that_are_not_declared_and_what_is_not_told_are_zeros():
    made = request_map(FEATURES[1:])
    assert made.context(None, {"tier": "unheard of"}).tolist() == [0, 0, 0, 0, 0, 0, 1]
    assert made.context().tolist() == [0, 0, 0, 0, 0, 0, 1]


def test_hashed_words_take_every_place_and_depend_on_the_seed():
    made, other = (request_map([HashedFeature("language", 4, seed=seed)]) for seed in (0, 1))
    words = [f"word {number}" for number in range(200)]
    places = [made.context(None, {"language": w})[:-1].argmax() for w in words]
    # 50 expected in each place, with standard deviation 6.1.
    assert np.bincount(places, minlength=4).min() > 50 - 4 * 6.1
    assert places != [other.context(None, {"language": w})[:-1].argmax() for w in words]
    assert made.context(None, {"language": "\ud800"})[:-1].sum() == 1


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"turn": "ten"}, "turn is 'ten'"),
        ({"turn": math.nan}, "turn is nan"),
        ({"tier": 3}, "tier is 3"),
        ({"language": False}, "language is False"),
        ({"mood": "good"}, "'mood' is not declared; declared: turn, tier, language"),
    ],
)
def test_a_request_feature_of_the_wrong_kind_is_refused(request_, message):
    with pytest.raises(InvalidParameter, match=message):
        request_map(FEATURES).context(None, request_)


def test_an_embedding_must_be_whole_and_of_length_one():
    made = gaussian_map(24, 5)
    for wrong in (None, unit(d=23)[0], np.full(24, np.nan)):
        with pytest.raises(InvalidShape, match="embedding"):
            made.context(wrong)
    with pytest.raises(InvalidParameter, match="length 2"):
        made.context(2 * unit()[0])


def test_components_beyond_the_grid_are_clipped():
    made = ContextMap("gaussian", np.full((1, 100), 1.0), np.zeros(100))
    assert made.context(np.full(100, 0.1)).tolist() == [8.0, 1.0]


@pytest.mark.parametrize(
    "build",
    [
        lambda: gaussian_map(24, 0),
        lambda: gaussian_map(24, 25),
        lambda: gaussian_map(384, 65),
        lambda: pca_map(unit(1, 5), 5),
        lambda: pca_map(np.repeat(unit(1, 3), 9, axis=0), 4),
        lambda: request_map([FEATURES[0], FEATURES[0]]),
        lambda: NumberFeature("turn", 1.0, 1.0),
        lambda: NumberFeature("turn", 0.0, math.inf),
        lambda: CategoryFeature("tier", ()),
        lambda: CategoryFeature("tier", ("a", "a")),
        lambda: HashedFeature("language", 1),
    ],
)
def test_maps_that_make_no_sense_are_refused(build):
    with pytest.raises(InvalidParameter):
        build()
