"""What the log comes to, folded once from its beginning: by nobody's saved state, and by plain counting."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kshot.index.store import Store
from kshot.index.store.policy_states import SavedState
from kshot.server.services.learning.contexts import Contexts
from kshot.server.services.learning.learner import Learner
from kshot.server.services.learning.outcomes import account_of
from kshot.server.services.learning.states import PolicyStates
from kshot.server.services.registry import Embedders, PoolRegistry


class Unsaved(Store):
    """A store that has never saved a state, and saves none."""

    def save_policy_state(self, policy_id: int, version: int, upto_seq: int, state: bytes) -> bool:
        return False

    def saved_policy_states(
        self, policy_id: int, version: int, *, upto_seq: int | None = None
    ) -> list[SavedState]:
        return []


@contextmanager
def reading(url: str, folder: Path) -> Iterator[tuple[Store, PolicyStates]]:
    """Open a database beside whoever serves it."""
    with Unsaved(url) as store:
        embedders = Embedders(threads=1, cache_dir=folder, query_cache_bytes=0)
        registry = PoolRegistry(store, embedders, folder / "pools")
        yield store, PolicyStates(store, Contexts(registry, embedders))


def folded(store: Store, states: PolicyStates, name: str) -> Learner:
    """Fold all that the log says of a policy."""
    learner = Learner(store, states.define(store.get_policy(name)))
    learner.catch_up()
    return learner


def counted(store: Store, states: PolicyStates, name: str) -> dict[str, int]:
    """Count the decisions of which an outcome is known, by what was served, one decision after the other."""
    definition = states.define(store.get_policy(name))
    counts = dict.fromkeys(definition.variants, 0)
    records = store.recent_decisions(definition.id, definition.record.created_at, 1_000_000)
    events = store.feedback_of("decision", [record.id for record in records])
    for record in records:
        known = account_of(record, events[record.id], definition.rules).outcome()
        if known.known:
            counts[known.arm or ""] += 1
    return counts


def check_state(store: Store, states: PolicyStates, info: Any) -> None:
    """Compare what a server says of a policy with the log."""
    clean = folded(store, states, info["name"])
    assert info["upto_seq"] == clean.learnt.upto_seq
    assert info["checksum"] == clean.learnt.checksum()
    counts = counted(store, states, info["name"])
    assert {one["name"]: one["outcomes"] for one in info["variants"]} == counts
    assert info["outcomes"] == sum(counts.values())
