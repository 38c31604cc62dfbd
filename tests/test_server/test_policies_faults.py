"""Every place at which learning can break off, one after the other: before and after each commit and save."""

import asyncio
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kshot.errors import Unavailable
from kshot.index.store import Store
from kshot.schemas.decisions import DecideRequest
from kshot.schemas.feedback import MetricSettings
from kshot.server.metrics import Metrics
from kshot.server.services.learning.contexts import Contexts
from kshot.server.services.learning.deciding import Deciding
from kshot.server.services.learning.decision_log import DecisionLog
from kshot.server.services.learning.decisions import DecisionService
from kshot.server.services.learning.learner import Learner
from kshot.server.services.learning.metrics import settings_of
from kshot.server.services.learning.shown import VariantPrompts
from kshot.server.services.learning.states import PolicyStates
from kshot.server.services.learning.sweeping import Sweeper
from kshot.server.services.prompts import PromptService
from kshot.server.services.registry import Embedders, PoolRegistry
from tests.test_server.clean_pass import counted, folded, reading
from tests.test_server.learning_log import appended, created, decision, opened, recorded, said
from tests.test_server.meddling import MeddledStore, When, failing, once

IS_FULL = bool(os.environ.get("KSHOT_TEST_FULL"))
WINDOW_S = 60.0
LATER = timedelta(hours=1)


class Process:
    """The learning loop of a process, which does only what it is told."""

    def __init__(self, store: Any, folder: Path) -> None:
        self.store = store
        embedders = Embedders(threads=1, cache_dir=folder, query_cache_bytes=0)
        contexts = Contexts(PoolRegistry(store, embedders, folder / "pools"), embedders)
        self.states = PolicyStates(store, contexts)
        self.log = DecisionLog(store)
        prompts = VariantPrompts(PromptService(store))
        self.deciding = Deciding(store, self.states, contexts, self.log, prompts, Metrics())
        self.decisions = DecisionService(store, self.states, self.deciding)
        self.sweeper = Sweeper(store, self.states)
        self.log.start()

    def learner(self) -> Learner:
        self.states.refresh()
        return self.states.get("p")

    def decide(self, number: int) -> tuple[str, float | None]:
        request = DecideRequest(
            decision_id=f"d{number}",
            features={f"x{i}": ((number * 7 + i) % 5 - 2) / 2 for i in range(3)},
            session_key="session" if number % 2 else None,
            subject_id="somebody" if number < 2 else None,
        )
        reply = asyncio.run(self.deciding.decide("p", request))
        return reply.variant, reply.probability

    def tell(self, number: int, kind: str, key: str, **changes: Any) -> None:
        record = self.store.get_decision(f"d{number}")
        # Twice, as a client that was not answered would.
        self.store.append_feedback([said(record, kind, key, **changes)] * 2)
        self.states.appended(record.policy_id)

    def learn(self) -> None:
        self.learner().catch_up()

    def save(self) -> None:
        self.learner().save(now=True)

    def expire(self) -> None:
        self.sweeper.expire(self.learner(), datetime.now(UTC) + LATER)

    def erase(self) -> None:
        asyncio.run(self.decisions.delete("somebody"))


def day(answers: dict[int, tuple[str, float | None]]) -> list[Callable[[Process], None]]:
    """Everything that happens to a policy, step by step; a step may be done again."""

    def decide(number: int) -> Callable[[Process], None]:
        def step(process: Process) -> None:
            answer = process.decide(number)
            assert answers.setdefault(number, answer) == answer

        return step

    return [
        *(decide(number) for number in range(8)),
        lambda process: process.tell(0, "reward", "first", value=1.0),
        lambda process: process.tell(1, "reward", "first", value=0.5),
        Process.learn,
        Process.save,
        lambda process: process.tell(2, "reward", "first", value=0.25),
        lambda process: process.tell(3, "reward", "first", value=0.75),
        lambda process: process.tell(4, "reward", "first", value=0.75),
        lambda process: process.tell(3, "correct", "second", value=0.125),
        lambda process: process.tell(4, "retract", "second"),
        Process.learn,
        decide(0),
        Process.expire,
        Process.save,
        Process.erase,
        decide(8),
        lambda process: process.tell(8, "reward", "first", value=1.0),
        Process.learn,
        Process.save,
    ]


def lived(folder: Path, store: MeddledStore, *, restarts: bool) -> dict[int, tuple[str, float | None]]:
    """Live through the day, doing what breaks off again: in the same process, or in the next."""
    answers: dict[int, tuple[str, float | None]] = {}
    process = Process(store, folder)
    for step in day(answers):
        for attempt in count(1):
            try:
                step(process)
            except Unavailable:
                assert attempt < 4
                if restarts:
                    process.log.close()
                    process = Process(store, folder)
            else:
                break
    process.log.close()
    return answers


def check(folder: Path, answers: dict[int, tuple[str, float | None]]) -> None:
    """Compare with what was answered, and with a clean pass, what the next process finds."""
    with Store(f"sqlite:///{folder / 'store.sqlite'}") as store:
        process = Process(store, folder)
        learner = process.learner()
        process.log.close()
        found = store.find_decisions([f"d{number}" for number in range(9)])
        assert {*found} == {f"d{number}" for number in range(2, 9)}
        for name, record in found.items():
            assert (record.served, record.propensity) == answers[int(name[1:])]
        assert len({record.served for record in found.values() if record.session_key}) == 1
        events = store.feedback_of("decision", [f"d{number}" for number in range(9)])
        assert {name: [event.kind for event in some] for name, some in events.items()} == {
            "d0": ["cancel"],
            "d1": ["cancel"],
            "d2": ["reward"],
            "d3": ["reward", "correct"],
            "d4": ["reward", "retract", "expire"],
            "d5": ["expire"],
            "d6": ["expire"],
            "d7": ["expire"],
            "d8": ["reward"],
        }
    with reading(f"sqlite:///{folder / 'store.sqlite'}", folder) as (store, states):
        assert learner.learnt.to_bytes() == folded(store, states, "p").learnt.to_bytes()
        # What was taken back is not given a default: seven decisions are left, and six outcomes.
        assert learner.learnt.state.events == sum(counted(store, states, "p").values()) == 6


@pytest.fixture
def morning(tmp_path: Path) -> Path:
    """A folder with a policy of which nothing was asked yet."""
    folder = tmp_path / "morning"
    folder.mkdir()
    with Store(f"sqlite:///{folder / 'store.sqlite'}") as store:
        store.declare_metric("reward", settings_of(MetricSettings(default=0.0, window_s=WINDOW_S)))
        created(store, control="brief")
    return folder


def once_broken(morning: Path, at: int, when: When, *, restarts: bool) -> int:
    """Live through the day with one failure, and return how many calls of the store there were."""
    folder = morning.parent / f"{at}-{when}"
    shutil.copytree(morning, folder)
    with Store(f"sqlite:///{folder / 'store.sqlite'}") as store:
        meddled = MeddledStore(store, failing(at, when))
        answers = lived(folder, meddled, restarts=restarts)
    check(folder, answers)
    shutil.rmtree(folder)
    return meddled.calls


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("restarts", [False, True], ids=["goes-on", "starts-again"])
@pytest.mark.parametrize("step", [31, pytest.param(1 if IS_FULL else 5, marks=pytest.mark.slow)])
def test_a_day_comes_to_the_same_wherever_it_breaks_off(morning: Path, step: int, when: When, restarts: bool):
    calls = once_broken(morning, 0, when, restarts=restarts)
    assert calls > 90
    # Other places for each of the four.
    first = 1 + (2 * restarts + (when == "after")) * step // 4
    for at in range(first, calls + 1, step):
        once_broken(morning, at, when, restarts=restarts)


def test_an_erasure_in_the_middle_of_a_fold_is_learnt_of_by_everybody(tmp_path: Path):
    """Whatever another process had read when the decision and its history went."""
    rng = np.random.default_rng(5)
    for at in count(1):
        folder = tmp_path / str(at)
        folder.mkdir()
        store, states = opened(folder)
        other_store, _ = opened(folder)
        here = states.install(created(store))
        records = [decision(here, number, rng) for number in range(5)]
        recorded(store, records)
        appended(store, [said(record, "reward", "k", value=0.75) for record in records])
        meddled = MeddledStore(other_store)
        process: Any = meddled
        there = Learner(process, here.definition)
        assert there.catch_up() == 5
        appended(store, [said(records[0], "cancel", "erasure"), said(records[1], "reward", "k2", value=0.5)])
        wiped: list[int] = []

        def finish(
            store: Store = store, here: Learner = here, wiped: list[int] = wiped, gone: str = records[0].id
        ) -> None:
            here.catch_up()
            here.save(now=True)
            store.drop_policy_states(here.definition.id, before_seq=store.last_feedback_seq())
            wiped.append(store.wipe_decisions([gone], keep_key="erasure"))

        meddled.meddle = once(meddled.calls + at, finish)
        there.catch_up()
        there.catch_up()
        here.catch_up()
        assert there.learnt.to_bytes() == here.learnt.to_bytes()
        assert there.learnt.state.events == 4
        for one in (store, other_store):
            one.close()
        if not wiped:
            break
    assert at > 3
