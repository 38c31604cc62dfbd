"""Every policy's state in this process, kept up to date with the database by one thread."""

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from kshot.errors import KshotError, PolicyNotFound, PromptNotFound, Unavailable
from kshot.index.store import Store
from kshot.index.store.policies import PolicyStamp, StoredPolicy
from kshot.selectors.bandits.metric_rules import RewardRules
from kshot.server.algorithms_schema import build_policy
from kshot.server.logs import get_logger
from kshot.server.services.learning.contexts import Contexts
from kshot.server.services.learning.definitions import Definition, define, is_hybrid, settings_of
from kshot.server.services.learning.learner import Learner
from kshot.server.services.learning.metrics import ensure_metric, rule_of
from kshot.server.services.learning.outcomes import FROZEN
from kshot.server.services.learning.pending import MOST

log = get_logger(__name__)
POLL_S = 1.0
"""How long another process' news may go unnoticed."""
_RETRY_S = 5.0


class PolicyStates:
    """Finds policies by name and number, and follows the feedback log for them.

    ``start`` opens every policy; from then on one thread folds what this process appends at once, and what
    others append within `POLL_S`. Policies that others create, change or delete are noticed likewise.
    """

    def __init__(self, store: Store, contexts: Contexts) -> None:
        self._store = store
        self._contexts = contexts
        self._lock = threading.Lock()
        # Definitions are taken over one at a time, so that none takes the place of a later one.
        self._installing = threading.RLock()
        self._id_to_learner: dict[int, Learner] = {}
        self._name_to_id: dict[str, int] = {}
        self._problems: dict[str, KshotError] = {}
        self._stamps: dict[int, PolicyStamp] = {}
        self._news: set[int] = set()
        self._seen_seq = 0
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._chores: list[Callable[[], object]] = []
        self._thread = threading.Thread(target=self._run, name="kshot-policies", daemon=True)

    def start(self, *chores: Callable[[], object]) -> None:
        """Open the policies and start the thread, which also does some chores at every round."""
        self._chores = list(chores)
        self.refresh()
        self._thread.start()

    def close(self) -> None:
        """Stop following, and save what was folded since the last time."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
            for learner in self.all():
                try:
                    learner.save(now=True)
                except KshotError as error:
                    # The log has it all.
                    log.warning("policy_state_not_saved", policy=learner.definition.name, code=error.code)

    def appended(self, policy_id: int) -> None:
        """Take note that the log has news of a policy; any thread may call it, after the commit."""
        with self._lock:
            self._news.add(policy_id)
        self._wake.set()

    def at_hand(self, name: str) -> Learner | None:
        """Return the learner of a policy that is open here, None of any other; does not block."""
        with self._lock:
            policy_id = self._name_to_id.get(name)
            return None if policy_id is None else self._id_to_learner.get(policy_id)

    def get(self, name: str) -> Learner:
        """Return the learner of a policy, opening it if another process created it.

        Raises
        ------
        PolicyNotFound
            There is no policy of that name.
        Unavailable
            There is, but it could not be opened; the message says why.
        """
        learner = self.at_hand(name)
        if learner is not None:
            return learner
        problem = self._problems.get(name)
        record = self._store.get_policy(name)
        if problem is not None:
            raise _unopened(name, problem)
        return self.opened(record)

    def find(self, policy_id: int) -> Learner:
        """Return the learner of a policy by its number; raises as `get` does."""
        learner = self._id_to_learner.get(policy_id)
        return self.opened(self._store.get_policy_by_id(policy_id)) if learner is None else learner

    def all(self) -> list[Learner]:
        """Return every learner there is."""
        with self._lock:
            return list(self._id_to_learner.values())

    def define(self, record: StoredPolicy) -> Definition:
        """Join a policy's record with its features and its metric; may build an embedder."""
        settings = settings_of(record)
        policy = build_policy(settings.algorithm, half_life_s=settings.half_life_s)
        features = self._contexts.features_of(settings.context, contextual=policy.contextual)
        rules = RewardRules({settings.metric: ensure_metric(self._store, settings.metric)})
        cost_rules = None
        if settings.cost_metric is not None:
            cost_rules = RewardRules(
                {settings.cost_metric: rule_of(self._store.get_metric(settings.cost_metric))}
            )
        vectors = {}
        if is_hybrid(policy):
            vectors = self._contexts.vectors_of(settings.context, self._texts(record))
        return define(record, features, rules, cost_rules, vectors)

    def _texts(self, record: StoredPolicy) -> dict[str, str]:
        """Return what variants say, by name; of those that say something."""
        texts = {}
        for variant in record.variants:
            content: Mapping[str, Any] = variant.config
            prompt = variant.config.get("prompt")
            if prompt is not None:
                try:
                    content = self._store.get_prompt_version(
                        prompt["name"], version=prompt["version"], label=prompt["label"]
                    ).content
                except PromptNotFound:
                    continue
            turns = [turn["content"] for turn in content.get("messages") or ()]
            parts = [content.get("system"), content.get("template"), *turns]
            text = "\n".join(part for part in parts if part)
            if text.strip():
                texts[variant.name] = text
        return texts

    def install(self, record: StoredPolicy) -> Learner:
        """Serve a policy as its record says from now on, with all that the log knows of it."""
        with self._installing:
            definition = self.define(record)
            learner = self._id_to_learner.get(record.id)
            if learner is None:
                learner = Learner(self._store, definition)
                self._await_recent(learner)
            elif learner.definition.record.stamp <= record.stamp:
                learner.redefine(definition)
            learner.catch_up()
            with self._lock:
                self._id_to_learner[record.id] = learner
                self._name_to_id[record.name] = record.id
                self._stamps[record.id] = learner.definition.record.stamp
                self._problems.pop(record.name, None)
        return learner

    def reopen(self, name: str) -> Learner:
        """Define a policy anew, since what it depends on has changed."""
        return self.install(self._store.get_policy(name))

    def forget(self, policy_id: int) -> None:
        """Serve a policy no longer."""
        with self._lock:
            self._id_to_learner.pop(policy_id, None)
            self._stamps.pop(policy_id, None)
            self._name_to_id = {name: one for name, one in self._name_to_id.items() if one != policy_id}

    def refresh(self) -> None:
        """Notice what changed in the database: definitions first, then the log."""
        stamps = {stamp.id: stamp for stamp in self._store.policy_stamps()}
        for policy_id in set(self._stamps) - set(stamps):
            self.forget(policy_id)
        for policy_id, stamp in stamps.items():
            if self._stamps.get(policy_id) != stamp:
                self._open(policy_id)
        last = self._store.last_feedback_seq()
        if last > self._seen_seq:
            for policy_id in self._store.policies_with_feedback(self._seen_seq):
                self._follow(policy_id)
            self._seen_seq = last

    def opened(self, record: StoredPolicy) -> Learner:
        """Serve a policy as `install` does; `Unavailable` says why that is not possible."""
        try:
            return self.install(record)
        except PolicyNotFound:
            raise
        except KshotError as error:
            # Whoever asks cannot help it, and what they say of its decisions is to be said again.
            raise _unopened(record.name, error) from error

    def _open(self, policy_id: int) -> None:
        try:
            record = self._store.get_policy_by_id(policy_id)
        except PolicyNotFound:
            return
        try:
            self.install(record)
        except KshotError as error:
            known = self._problems.get(record.name)
            if known is None or known.message != error.message:
                log.warning("policy_not_opened", policy=record.name, code=error.code, reason=error.message)
            self._problems[record.name] = error

    def _follow(self, policy_id: int) -> None:
        learner = self._id_to_learner.get(policy_id)
        if learner is None:
            return
        try:
            learner.catch_up()
        except Unavailable:
            raise
        except KshotError as error:
            # Others are followed all the same.
            log.warning("policy_not_followed", policy=learner.definition.name, code=error.code)

    def _await_recent(self, learner: Learner) -> None:
        """Await the outcomes of decisions that were made before this process started."""
        if not learner.narrows:
            return
        definition = learner.definition
        since = datetime.now(UTC) - timedelta(seconds=definition.window_s)
        recent = self._store.recent_decisions(definition.id, since, MOST)
        known = self._store.feedback_of("decision", [record.id for record in recent])
        for record in reversed(recent):
            if not known[record.id] and record.mode != FROZEN:
                learner.pending.add(record)

    def _run(self) -> None:
        next_poll = 0.0
        while not self._stopping.is_set():
            try:
                with self._lock:
                    news, self._news = self._news, set()
                for policy_id in news:
                    self._follow(policy_id)
                if time.monotonic() >= next_poll:
                    next_poll = time.monotonic() + POLL_S
                    self.refresh()
                    for learner in self.all():
                        learner.save()
                    for chore in self._chores:
                        chore()
            except Exception:
                # The thread has to outlive a database that does not answer; the log waits for it.
                log.exception("policies_not_followed")
                self._stopping.wait(_RETRY_S)
            self._wake.wait(max(next_poll - time.monotonic(), 0.0))
            self._wake.clear()


def _unopened(name: str, problem: KshotError) -> Unavailable:
    return Unavailable(f"policy {name!r} could not be opened: {problem.message}")
