"""A store with a policy, decisions and a log, written without a server; and states that follow it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from kshot.index.store import Store
from kshot.index.store.decisions import Proposal
from kshot.index.store.policies import NewVariant, StoredPolicy
from kshot.records import DecisionRecord, FeedbackEvent, NewFeedback
from kshot.schemas.policies import PolicySettings, VariantCreate
from kshot.selectors.bandits import snapped
from kshot.selectors.bandits.grid import grid_features
from kshot.selectors.bandits.ledger import Move, Outcome, Status, changes
from kshot.server.services.learning.contexts import Contexts
from kshot.server.services.learning.learner import Learner
from kshot.server.services.learning.outcomes import account_of, is_learnt_from, logged_decision
from kshot.server.services.learning.states import PolicyStates
from kshot.server.services.registry import Embedders, PoolRegistry

START = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
ARMS = ("brief", "formal", "warm")
FEATURES = [{"type": "number", "name": f"x{i}", "low": -1.0, "high": 1.0} for i in range(3)]


def opened(folder: Path) -> tuple[Store, PolicyStates]:
    """Open a store as one process of several would, and what follows its log; nothing is started."""
    store = Store(f"sqlite:///{folder / 'store.sqlite'}")
    embedders = Embedders(threads=1, cache_dir=folder, query_cache_bytes=0)
    return store, PolicyStates(store, Contexts(PoolRegistry(store, embedders, folder / "pools"), embedders))


def created(store: Store, name: str = "p", **settings: Any) -> StoredPolicy:
    given = PolicySettings.model_validate({"context": {"dimension": 0, "features": FEATURES}, **settings})
    config = VariantCreate(name="x").model_dump(mode="json", exclude={"name", "status"})
    variants = [NewVariant(arm, "active", config) for arm in ARMS]
    return store.create_policy(name, given.model_dump(mode="json"), variants)


def decision(learner: Learner, number: int, rng: np.random.Generator, **changes: Any) -> DecisionRecord:
    """A decision of number ``number``, made as many seconds after the start."""
    definition = learner.definition
    context = snapped(np.append(rng.uniform(-1, 1, definition.features.contexts.dimension - 1), 1.0))
    values: dict[str, Any] = {
        "id": f"{definition.name}-{number}",
        "policy_id": definition.id,
        "policy_version": definition.record.version,
        "feature_version": definition.features.version,
        "decided_at": START + timedelta(seconds=number),
        "request_hash": "h",
        "chosen": ARMS[int(rng.integers(3))],
        "propensity": 1 / 3,
        "propensity_kind": "exact",
        "hold_out": False,
        "mode": "online",
        "active": True,
        "seed": "0",
        "eligible": list(ARMS),
        "probabilities": np.full(3, 1 / 3).tobytes(),
        "features": grid_features(context).tobytes(),
    }
    values |= changes
    return DecisionRecord(**{"served": values["chosen"], **values})


def recorded(store: Store, records: Sequence[DecisionRecord]) -> None:
    for start in range(0, len(records), 500):
        store.add_decisions([Proposal(record) for record in records[start : start + 500]])


def said(record: DecisionRecord, kind: str, key: str, **changes: Any) -> NewFeedback:
    values: dict[str, Any] = {
        "target_kind": "decision",
        "target_id": record.id,
        "policy_id": record.policy_id,
        "metric": "reward" if kind in ("reward", "correct", "retract") else "",
        "idempotency_key": key,
        "kind": kind,
        "occurred_at": record.decided_at + timedelta(seconds=5),
        "received_at": record.decided_at + timedelta(seconds=5),
    }
    return NewFeedback(**(values | changes))


def rumours(records: Sequence[DecisionRecord], count: int, rng: np.random.Generator) -> list[NewFeedback]:
    """Events of every kind about random decisions, one in five of them told twice, in random order."""
    events = []
    for i in range(count):
        record = records[int(rng.integers(len(records)))]
        kind = str(
            rng.choice(
                ["reward", "correct", "retract", "cancel", "activate", "expire", "served"],
                p=[0.7, 0.1, 0.05, 0.03, 0.04, 0.04, 0.04],
            )
        )
        changes: dict[str, Any] = {}
        if kind in ("reward", "correct"):
            changes = {"value": float(rng.uniform()), "weight": float(rng.choice([0.5, 1.0, 2.0]))}
        if kind == "served":
            changes = {"variant": str(rng.choice(ARMS))}
        events.append(said(record, kind, f"k{i}", **changes))
    twice = [events[int(place)] for place in rng.integers(len(events), size=count // 5)]
    everything = [*events, *twice]
    return [everything[int(place)] for place in rng.permutation(len(everything))]


def appended(store: Store, events: Sequence[NewFeedback]) -> list[FeedbackEvent]:
    """Append events, a few hundred at a time, and return those that are new."""
    new = []
    for start in range(0, len(events), 300):
        new += [one.event for one in store.append_feedback(events[start : start + 300]) if not one.duplicate]
    return new


def slow_state(learner: Learner, records: Sequence[DecisionRecord], log: Sequence[FeedbackEvent]) -> bytes:
    """The state from what every decision has come to in the end, with no regard to the way there."""
    definition = learner.definition
    nothing = Outcome(None, 0, 0, Status.INACTIVE)
    moves = []
    for record in records:
        events = [event for event in log if event.target_id == record.id]
        if is_learnt_from(definition, record):
            known = account_of(record, events, definition.rules).outcome()
            contextual = definition.policy.contextual
            moves.append(Move(logged_decision(record, contextual=contextual), nothing, known))
    addends = changes(moves, definition.dimension)
    return bytes(definition.policy.fold(definition.initial_state(), addends).to_bytes())
