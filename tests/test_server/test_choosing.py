"""Choosing among candidates, apart from any request."""

import threading
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from kshot.arrays import Feature, Picks
from kshot.index.candidates import QueryFeatures
from kshot.index.snapshot import Exclusions
from kshot.schemas.selections import Distinct, SelectRequest
from kshot.server.services import choosing
from kshot.server.services.choosing import Method
from tests.test_index.builders import header, published, vector_of

N = 2_500
"""More than a small pool, whose rows are all candidates."""


@dataclass(frozen=True)
class Stingy:
    """Gives one pick fewer than wanted, unless it may choose from all."""

    needs: ClassVar[frozenset[Feature]] = frozenset()
    pool_wide: ClassVar[bool] = False

    def select(self, candidates: Any, k: int, _rng: Any) -> Picks:
        count = k if len(candidates) == N else k - 1
        rows = np.arange(min(count, len(candidates)))
        return Picks(rows, np.ones(len(rows)), np.ones(len(rows)))


@pytest.mark.parametrize("similarity", [None, 0.999])
def test_a_method_that_gives_too_few_is_given_every_row_and_asked_once_more(tmp_path, similarity):
    texts = [f"text {seq}" for seq in range(1, N + 1)]
    snapshot = published(tmp_path, [header(seq) for seq in range(1, N + 1)], texts).snapshot
    query = QueryFeatures(vector_of("a query"), None, "a query")
    request = SelectRequest(inputs="a query", distinct=Distinct(similarity=similarity))
    found: list[Any] = []

    def choose() -> None:
        eligible = snapshot.eligible(None, Exclusions())
        found.append(choosing.choose(snapshot, query, eligible, Method("stingy", Stingy()), request, 5, None))

    thread = threading.Thread(target=choose, daemon=True)
    thread.start()
    thread.join(30)
    assert found, "still choosing after 30 s"
    assert found[0].rows.tolist() == [0, 1, 2, 3, 4]
    assert found[0].candidates == N
