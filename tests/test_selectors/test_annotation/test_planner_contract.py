"""What every registered planner promises, whoever wrote it."""

import dataclasses
import inspect
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from kshot.arrays import unit_rows
from kshot.errors import InvalidInput, InvalidParameter
from kshot.selectors import knn_graph
from kshot.selectors.annotation import PLANNERS, PlanCandidates
from kshot.selectors.annotation.base import PlanFeature, silent
from tests.strategies import grid
from tests.test_selectors.test_annotation.graphs import Reports, Stopped

NAMES = PLANNERS.names()
# Planners under parameters that take another way through them.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "facility_location along edges": ("facility_location", {"exact_rows": 0, "n_neighbors": 5}),
    "max_sum_dispersion from anywhere": ("max_sum_dispersion", {"start": "random"}),
    "fast_vote_k of few": ("fast_vote_k", {"n_neighbors": 3}),
    "vote_k of few": ("vote_k", {"n_neighbors": 3, "phase1": 1}),
    "dpp_diversity of no quality": ("dpp_diversity", {"lam": 0.0}),
    "structurally_diverse of frequent ones": ("structurally_diverse", {"min_freq": 3}),
    "sensitivity of many centers": ("sensitivity", {"centers": 1.0, "power": 1.0}),
}
ALL = (*NAMES, *VARIANTS)
# They draw: seeds of clusters, worlds, rows.
DRAWING = {
    "auto_ideal",
    "ideal",
    "k_means",
    "max_sum_dispersion from anywhere",
    "random",
    "sensitivity",
    "sensitivity of many centers",
    "structurally_diverse",
    "structurally_diverse of frequent ones",
}
DETERMINISTIC = [name for name in ALL if name not in DRAWING]
# It begins at labelled rows, and ends where their influence ends.
FROM_LABELS = {"auto_ideal"}
FILLING = [name for name in ALL if name not in FROM_LABELS]
# Identical rows need not be picked in their order, for the reason given.
NOT_BY_ROW = {**dict.fromkeys(DRAWING, "draws rows"), "vote_k of few": "takes one row of every bucket"}
# Other row numbers may give other rows, for the reason given.
NOT_EQUIVARIANT = {
    **dict.fromkeys(DRAWING, "draws by row number"),
    "dpp_diversity of no quality": "unit rows all tie for the first pick",
    "fast_vote_k": "of 120 rows all vote for all",
    "fast_vote_k of few": "many rows have the same number of votes",
    "vote_k": "of 120 rows all vote for all",
    "vote_k of few": "many rows have the same number of votes",
}

every_planner = pytest.mark.parametrize("name", NAMES)
every_variant = pytest.mark.parametrize("name", ALL)
every_deterministic_variant = pytest.mark.parametrize("name", DETERMINISTIC)


def made(name):
    method, parameters = VARIANTS.get(name, (name, {}))
    cls: Any = PLANNERS.get(method)
    return cls(**parameters)


def suited(name, candidates):
    """Label the first row for a planner that cannot begin without."""
    if name not in FROM_LABELS or candidates.labelled.any():
        return candidates
    return dataclasses.replace(candidates, labelled=np.arange(len(candidates)) == 0)


def with_graph(planner, candidates):
    """Add the neighbour graph that a planner asks for."""
    spec = planner.graph
    if spec is None:
        return candidates
    graph = knn_graph(candidates.vectors, spec.n_neighbors, center=spec.center)
    return dataclasses.replace(candidates, graph=graph)


def plan(name, candidates, budget, seed=0, report=silent):
    planner = made(name)
    candidates = with_graph(planner, suited(name, candidates))
    return planner.plan(candidates, budget, np.random.default_rng(seed), report)


def same(a, b):
    return all(np.array_equal(getattr(a, part), getattr(b, part)) for part in ("indices", "gains", "scores"))


@st.composite
def candidate_sets(draw, min_size=1, max_size=10):
    """Rows with every feature, on a coarse grid: equal rows, ties, unknowns and empty rows are common."""
    n = draw(st.integers(min_size, max_size))
    n_structures, n_tags = draw(st.integers(0, 4)), draw(st.integers(1, 3))
    confidence = draw(grid(n, 0, 4, 0.25)).astype(np.float64)
    confidence[draw(grid(n, 0, 3)) == 0] = np.nan
    return PlanCandidates(
        labelled=draw(grid(n, 0, 3)) == 0,
        vectors=unit_rows(draw(grid((n, 3), -2, 2)) + np.array([0.5, 0, 0])),
        confidence=confidence,
        structures=csr_array(draw(grid((n, n_structures), -2, 2)).clip(min=0).astype(np.int64)),
        tags=csr_array(draw(grid((n, n_tags), 0, 1)).astype(np.bool_)),
        tag_vectors=unit_rows(draw(grid((n_tags, 2), 1, 2))),
        quality=draw(st.none() | grid(n, 1, 3, 0.5)),
    )


def random_candidates(seed, n, labelled=0):
    """Rows with every feature and, with probability one, no ties."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(n, np.bool_)
    mask[rng.permutation(n)[:labelled]] = True
    tags = rng.random((n, 5)) < 0.3
    tags[np.arange(n), rng.integers(0, 5, n)] = True
    return PlanCandidates(
        labelled=mask,
        vectors=unit_rows(rng.standard_normal((n, 8))),
        confidence=rng.random(n),
        structures=csr_array(rng.poisson(0.4, (n, 12))),
        tags=csr_array(tags),
        tag_vectors=unit_rows(rng.standard_normal((5, 4))),
        quality=rng.uniform(0.5, 2.0, n),
    )


def constant_candidates(n, labelled=()):
    """The same row n times."""
    mask = np.zeros(n, np.bool_)
    mask[list(labelled)] = True
    return PlanCandidates(
        labelled=mask,
        vectors=unit_rows(np.tile([[0.6, 0.8]], (n, 1))),
        confidence=np.full(n, 0.5),
        structures=csr_array(np.ones((n, 2), np.int64)),
        tags=csr_array(np.ones((n, 2), np.bool_)),
        tag_vectors=unit_rows(np.eye(2)),
        quality=np.full(n, 2.0),
    )


@every_variant
@settings(max_examples=40)
@given(candidates=candidate_sets(), budget=st.integers(1, 12))
def test_picks_are_distinct_unlabelled_and_as_many_as_can_be(name, candidates, budget):
    candidates = suited(name, candidates)
    picks = plan(name, candidates, budget)
    assert picks.indices.dtype == np.int64
    picked = picks.indices.tolist()
    assert len(set(picked)) == len(picked)
    assert set(picked) <= set(np.flatnonzero(~candidates.labelled).tolist())
    wanted = min(budget, candidates.unlabelled)
    assert len(picked) == wanted or (name in FROM_LABELS and len(picked) < wanted)
    assert np.isfinite(picks.gains).all()
    assert np.isfinite(picks.scores).all()


@every_variant
@settings(max_examples=20)
@given(candidates=candidate_sets(), budget=st.integers(1, 12), seed=st.integers(0, 3))
def test_same_input_and_seed_give_the_same_picks(name, candidates, budget, seed):
    assert same(plan(name, candidates, budget, seed), plan(name, candidates, budget, seed))


@every_deterministic_variant
@settings(max_examples=20)
@given(candidates=candidate_sets(), budget=st.integers(1, 12))
def test_deterministic_planners_ignore_the_generator(name, candidates, budget):
    assert same(plan(name, candidates, budget, seed=1), plan(name, candidates, budget, seed=2))


@pytest.mark.parametrize("name", sorted(DRAWING))
def test_drawing_planners_heed_the_generator(name):
    candidates = random_candidates(seed=1, n=60)
    plans = {tuple(plan(name, candidates, 12, seed).indices.tolist()) for seed in range(8)}
    assert len(plans) > 1


def arrays_of(candidates):
    """Every array that candidates hold, sparse matrices and graph taken apart."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(candidates):
        part = getattr(candidates, field.name)
        if isinstance(part, csr_array):
            found |= {f"{field.name}.{name}": getattr(part, name) for name in ("data", "indices", "indptr")}
        elif isinstance(part, np.ndarray):
            found[field.name] = part
        elif part is not None:
            found |= {"indices": part.indices, "similarities": part.similarities}
    return found


@every_variant
def test_inputs_are_never_changed(name):
    planner = made(name)
    candidates = with_graph(planner, random_candidates(seed=1, n=40, labelled=4))
    for array in arrays_of(candidates).values():
        array.setflags(write=False)
    before = {part: array.copy() for part, array in arrays_of(candidates).items()}
    assert len(before) >= 11
    planner.plan(candidates, 30, np.random.default_rng(0))
    assert all(np.array_equal(array, before[part]) for part, array in arrays_of(candidates).items())


@pytest.mark.parametrize("name", [name for name in ALL if made(name).nested])
@settings(max_examples=20)
@given(candidates=candidate_sets(), seed=st.integers(0, 3))
def test_smaller_plans_begin_larger_ones(name, candidates, seed):
    whole = plan(name, candidates, len(candidates), seed)
    for budget in range(1, len(candidates)):
        part = plan(name, candidates, budget, seed)
        assert part.indices.tolist() == whole.indices[:budget].tolist()
        np.testing.assert_allclose(part.gains, whole.gains[:budget], atol=1e-12)


@pytest.mark.parametrize("name", [name for name in ALL if not made(name).nested])
def test_planners_that_are_not_nested_are_not(name):
    candidates = random_candidates(seed=2, n=60)
    whole = plan(name, candidates, 20).indices.tolist()
    assert any(plan(name, candidates, m).indices.tolist() != whole[:m] for m in range(1, 20))


@pytest.mark.parametrize("name", FILLING)
@pytest.mark.parametrize("budget", [35, 36, 99])
def test_a_budget_for_all_gives_every_unlabelled_row(name, budget):
    candidates = random_candidates(seed=3, n=40, labelled=5)
    picks = plan(name, candidates, budget)
    assert sorted(picks.indices.tolist()) == np.flatnonzero(~candidates.labelled).tolist()


@pytest.mark.parametrize("name", FILLING)
def test_one_row_is_picked(name):
    assert plan(name, random_candidates(seed=4, n=1), 3).indices.tolist() == [0]


@every_variant
@pytest.mark.parametrize("n", [0, 1, 7])
def test_where_all_is_labelled_nothing_is_picked(name, n):
    if n == 0 and name in FROM_LABELS:
        with pytest.raises(InvalidInput, match="starts from labelled"):
            plan(name, constant_candidates(0), 3)
        return
    assert len(plan(name, constant_candidates(n, range(n)), 3)) == 0


@pytest.mark.parametrize("name", FILLING)
@pytest.mark.parametrize("labelled", [(), (0, 4)])
def test_identical_rows_are_valid(name, labelled):
    picks = plan(name, constant_candidates(9, labelled), 5)
    assert len(set(picks.indices.tolist()) - set(labelled)) == 5
    assert np.isfinite(picks.gains).all()
    if name not in NOT_BY_ROW:
        assert picks.indices.tolist() == [row for row in range(9) if row not in labelled][:5]


@pytest.mark.parametrize("name", [name for name in DETERMINISTIC if "vote_k" not in name])
@settings(max_examples=30)
@given(candidates=candidate_sets(max_size=6), budget=st.integers(1, 12))
def test_a_duplicate_never_comes_before_its_original(name, candidates, budget):
    # Votes are left out: a row and its copy vote for each other, and for different others.
    n = len(candidates)
    picked = plan(name, candidates.take(np.tile(np.arange(n), 2)), budget).indices.tolist()
    for copy in (row for row in picked if row >= n):
        assert copy - n in picked[: picked.index(copy)]


@pytest.mark.parametrize("name", [name for name in ALL if name not in NOT_EQUIVARIANT])
@pytest.mark.parametrize("seed", range(5))
def test_rearranged_rows_give_the_same_plan(name, seed):
    candidates = random_candidates(seed, n=120, labelled=seed)
    order = np.random.default_rng(seed).permutation(120)
    original = plan(name, candidates, 8)
    moved = plan(name, candidates.take(order), 8)
    assert order[moved.indices].tolist() == original.indices.tolist()
    np.testing.assert_allclose(moved.gains, original.gains, atol=1e-6)


@every_variant
def test_progress_goes_up_to_the_total_and_raising_stops(name):
    candidates = random_candidates(seed=5, n=60, labelled=3)
    reports = Reports()
    plan(name, candidates, 20, report=reports)
    assert all(0 <= done <= total for done, total in reports.seen)
    if reports.seen:
        with pytest.raises(Stopped):
            plan(name, candidates, 20, report=Reports(stop_after=1))
    else:
        assert name in {"random", "least_confidence"}


@every_planner
def test_one_instance_serves_many_threads(name):
    planner = made(name)
    sets = [with_graph(planner, random_candidates(seed, n=50, labelled=2)) for seed in range(8)]

    def picked(candidates):
        return planner.plan(candidates, 8, np.random.default_rng(5)).indices.tolist()

    alone = [picked(candidates) for candidates in sets]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(picked, sets)) == alone


@every_variant
def test_a_budget_below_one_is_refused(name):
    with pytest.raises(InvalidParameter, match="budget is 0"):
        plan(name, random_candidates(seed=5, n=4), 0)


FEATURE_TO_PARTS = {
    PlanFeature.VECTORS: ("vectors",),
    PlanFeature.GRAPH: ("graph",),
    PlanFeature.CONFIDENCE: ("confidence",),
    PlanFeature.STRUCTURES: ("structures",),
    PlanFeature.TAGS: ("tags", "tag_vectors"),
}


@every_variant
def test_what_is_neither_needed_nor_wanted_may_be_absent(name):
    planner = made(name)
    full = with_graph(planner, random_candidates(seed=6, n=30, labelled=2))
    asked = planner.needs | planner.wants
    unasked: dict[str, Any] = {
        part: None for feature, parts in FEATURE_TO_PARTS.items() if feature not in asked for part in parts
    }
    lean = dataclasses.replace(full, **unasked)
    rng = np.random.default_rng
    assert same(planner.plan(lean, 7, rng(0)), planner.plan(full, 7, rng(0)))


@every_variant
def test_what_is_wanted_may_be_absent(name):
    planner = made(name)
    full = with_graph(planner, random_candidates(seed=7, n=30, labelled=2))
    wanted: dict[str, Any] = {part: None for feature in planner.wants for part in FEATURE_TO_PARTS[feature]}
    picks = planner.plan(dataclasses.replace(full, quality=None, **wanted), 7, np.random.default_rng(0))
    assert len(picks) == 7


@pytest.mark.parametrize(
    ("name", "part"),
    [(name, part) for name in ALL for need in sorted(made(name).needs) for part in FEATURE_TO_PARTS[need]],
)
def test_a_missing_need_is_named(name, part):
    planner = made(name)
    full = with_graph(planner, random_candidates(seed=8, n=6, labelled=1))
    with pytest.raises(InvalidInput, match=f"the rows' {part.partition('_')[0].rstrip('s')}"):
        planner.plan(dataclasses.replace(full, **{part: None}), 2, np.random.default_rng(0))


@every_variant
def test_a_graph_is_described_by_whoever_reads_one(name):
    planner = made(name)
    assert (planner.graph is not None) == (PlanFeature.GRAPH in planner.needs | planner.wants)
    assert not planner.needs & planner.wants


@every_variant
def test_diagnostics_are_small_and_ready_for_json(name):
    picks = plan(name, random_candidates(seed=9, n=50, labelled=3), 20)
    assert len(json.dumps(dict(picks.diagnostics))) < 1000


@every_planner
def test_the_first_line_says_what_it_does(name):
    cls: Any = PLANNERS.get(name)
    first, _, rest = str(inspect.getdoc(cls)).partition("\n")
    assert 40 < len(first) <= 110
    assert first.endswith(".")
    assert rest.startswith("\n")
    assert not first.startswith(cls.__name__)


@every_planner
def test_a_planner_is_a_frozen_record_of_declared_parameters(name):
    cls: Any = PLANNERS.get(name)
    assert cls.__dataclass_params__.frozen
    assert isinstance(cls.nested, bool)
    planner = cls()
    for field in dataclasses.fields(cls):
        assert field.metadata["description"].endswith(".")
        for bound, beyond in (("ge", -1), ("gt", 0), ("le", 1)):
            limit = field.metadata[bound]
            if limit is not None:
                with pytest.raises(InvalidParameter, match=field.name):
                    dataclasses.replace(planner, **{field.name: limit + beyond})
