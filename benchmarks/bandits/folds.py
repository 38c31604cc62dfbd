"""How many outcomes a second become part of a state: by a policy alone, and from the service's log."""

import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bandits.calls import logged
from kshot.index.store import Store
from kshot.index.store.decisions import Proposal
from kshot.index.store.policies import NewVariant
from kshot.records import DecisionRecord, NewFeedback
from kshot.schemas.policies import PolicySettings, VariantCreate
from kshot.selectors.bandits import POLICIES, Addends
from kshot.server.services.learning.contexts import Contexts
from kshot.server.services.learning.learner import Learner
from kshot.server.services.learning.states import PolicyStates
from kshot.server.services.registry import Embedders, PoolRegistry

GOAL = 20_000
START = datetime(2031, 5, 6, tzinfo=UTC)
AT_ONCE = 500
FEATURES = 16
"""The most request features that a policy may declare; a learnt one, the intercept, comes on top."""


def measure_folds(events: int, batch: int, rounds: int) -> dict[str, Any]:
    """Fold the same outcomes in batches, by every policy, in rounds."""
    addends, contexts, _ = logged(50, 64, events)
    parts: list[Addends] = [
        addends.take(np.arange(start, min(start + batch, events))) for start in range(0, events, batch)
    ]
    rates: dict[str, list[float]] = {name: [] for name in POLICIES.names()}
    for _ in range(rounds):
        for name, found in rates.items():
            policy = POLICIES.get(name)()
            state = policy.init(contexts.shape[1])
            started = time.perf_counter()
            for part in parts:
                state = policy.fold(state, part)
            found.append(events / (time.perf_counter() - started))
    print(
        f"\nbatches of {batch:,}, 50 arms, 64 features\n\n"
        f"| policy | events/s | times {GOAL:,} |\n| --- | --- | --- |"
    )
    medians = {name: statistics.median(found) for name, found in rates.items()}
    for name, rate in medians.items():
        print(f"| {name} | {rate:,.0f} | {rate / GOAL:.1f} |")
    return medians


def measure_log(events: int, rounds: int, algorithms: list[str]) -> dict[str, Any]:
    """Append events to a store's log, then let fresh learners catch up with it: read, account, fold, save."""
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="kshot-bench-") as folder:
        data = Path(folder)
        store = Store(f"sqlite:///{data / 'store.sqlite'}")
        embedders = Embedders(threads=1, cache_dir=data, query_cache_bytes=0)
        states = PolicyStates(store, Contexts(PoolRegistry(store, embedders, data / "pools"), embedders))
        learners = {name: filled(store, states, name, events) for name in algorithms}
        rates: dict[str, list[float]] = {name: [] for name in algorithms}
        for _ in range(rounds):
            for name, record in learners.items():
                store.drop_policy_states(record.id, before_seq=1 << 60)
                learner = Learner(store, states.define(record))
                started = time.perf_counter()
                count = learner.catch_up()
                rates[name].append(count / (time.perf_counter() - started))
                assert learner.learnt.state.events == events, "every event is an outcome"
        for name, found in rates.items():
            result[name] = statistics.median(found)
            ratio = result[name] / GOAL
            print(
                f"from the log of the service, {name}: {result[name]:,.0f} events/s ({ratio:.2f} of the goal)"
            )
    return result


def filled(store: Store, states: PolicyStates, algorithm: str, events: int) -> Any:
    """Make a policy of 50 variants with so many decisions, and one event about each."""
    features = [{"type": "number", "name": f"x{i}", "low": -1.0, "high": 1.0} for i in range(FEATURES)]
    settings = PolicySettings.model_validate(
        {"algorithm": algorithm, "context": {"dimension": 0, "features": features}}
    )
    config = VariantCreate(name="x").model_dump(mode="json", exclude={"name", "status"})
    addends, _, arms = logged(50, FEATURES + 1, events)
    record = store.create_policy(
        f"fold-{algorithm}",
        settings.model_dump(mode="json"),
        [NewVariant(arm, "active", config) for arm in arms],
    )
    definition = states.define(record)
    contextual = definition.policy.contextual
    places = np.full(50, 1 / 50).tobytes()
    for start in range(0, events, AT_ONCE):
        rows = range(start, min(start + AT_ONCE, events))
        decisions = [
            DecisionRecord(
                id=f"{algorithm}-{row}",
                policy_id=record.id,
                policy_version=record.version,
                feature_version=definition.features.version,
                decided_at=START + timedelta(seconds=row),
                request_hash="h",
                chosen=addends.arms[row],
                served=addends.arms[row],
                propensity=1 / 50,
                propensity_kind="exact",
                hold_out=False,
                mode="online",
                active=True,
                seed="0",
                eligible=list(arms),
                probabilities=places,
                features=addends.contexts[row].astype("<i8").tobytes() if contextual else b"",
            )
            for row in rows
        ]
        store.add_decisions([Proposal(one) for one in decisions])
        store.append_feedback(
            [
                NewFeedback(
                    target_kind="decision",
                    target_id=one.id,
                    policy_id=record.id,
                    metric="reward",
                    idempotency_key="told",
                    kind="reward",
                    value=float(row % 2),
                    occurred_at=one.decided_at,
                    received_at=one.decided_at,
                )
                for row, one in zip(rows, decisions, strict=True)
            ]
        )
    return record
