"""The state of one policy in this process: it follows the log, event by event, in the log's order.

A state is a function of the log up to an event, and of nothing else: not of which process folds it, in which
batches, or what it had been restored from. So all processes over one database reach the same bytes.
"""

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from kshot.errors import StateCorrupt
from kshot.index.store import Store
from kshot.index.store.policy_states import checksum_of
from kshot.records import FeedbackEvent
from kshot.selectors.bandits.costs import CostBook
from kshot.server.logs import get_logger
from kshot.server.services.learning.definitions import Definition
from kshot.server.services.learning.outcomes import News, news
from kshot.server.services.learning.pending import NARROWED, Pending
from kshot.server.services.learning.yardstick import Yardstick

log = get_logger(__name__)
BATCH = 1_000
"""Events that are read and folded at once."""
SAVE_EVERY_EVENTS = 1_000
SAVE_EVERY_S = 60.0
_LAYOUT = 1


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a policy knows at a place in the log; never changed.

    Attributes
    ----------
    definition : Definition
    state : PolicyState
    yardstick : Yardstick
        What the control and the policy have earned.
    costs : CostBook
        What variants have cost, where that is reported.
    upto_seq : int
        The last event that is part of it.
    is_measured : bool
        Whether yardstick and costs go as far; they do not where another control or metric of costs was set.
    """

    definition: Definition
    state: Any
    yardstick: Yardstick
    costs: CostBook
    upto_seq: int
    is_measured: bool = True

    def to_bytes(self) -> bytes:
        """Return it in a canonical form: equal for everybody who has read as much of the log."""
        header = {
            "layout": _LAYOUT,
            "sums": self.definition.yardsticks,
            "yardstick": self.yardstick.numbers(),
            "costs": [[arm, *known] for (arm, _), known in sorted(self.costs.entries.items())],
        }
        text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
        return text + b"\n" + bytes(self.state.to_bytes())

    def moved(self, found: News, upto_seq: int) -> "Learnt":
        """Return it with yardstick and costs after some events, and the same state."""
        costs = self.costs
        for arm, cost, count in found.costs:
            costs = costs.with_cost(arm, 0, cost, count=count)
        return replace(self, yardstick=self.yardstick.after(found.moves), costs=costs, upto_seq=upto_seq)

    def cost_of(self, arm: str) -> float | None:
        """Return what a variant is expected to cost: as reported, else declared, else as others do."""
        if (arm, 0) in self.costs.entries:
            return float(self.costs.expected([arm], 0)[0])
        declared = self.definition.variants[arm].settings.cost
        if declared is None and self.costs.entries:
            return float(self.costs.expected([arm], 0)[0])
        return declared

    def checksum(self) -> str:
        """Return what tells states apart."""
        return checksum_of(self.to_bytes())


def restored(definition: Definition, upto_seq: int, blob: bytes) -> Learnt:
    """Return what `Learnt.to_bytes` gave; of yardstick and costs only what is of this definition too.

    Raises
    ------
    StateCorrupt
        It is of other features, or cannot be read.
    """
    text, _, state = blob.partition(b"\n")
    try:
        header = json.loads(text)
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise StateCorrupt("the saved state has no header that can be read")
    sums = header.get("sums") or [None]
    expected, found = [_LAYOUT, definition.features.version], [header.get("layout"), sums[0]]
    if found != expected:
        raise StateCorrupt(f"the saved state is of {found}, wanted {expected}")
    begun = replace(beginning(definition), state=definition.policy.restore(state), upto_seq=upto_seq)
    if sums != definition.yardsticks:
        return replace(begun, is_measured=False)
    yardstick = Yardstick.of(definition.settings.control, header["yardstick"])
    costs = CostBook(MappingProxyType({(arm, 0): (n, total) for arm, n, total in header["costs"]}))
    return replace(begun, yardstick=yardstick, costs=costs)


def beginning(definition: Definition) -> Learnt:
    """Return what is known before the first event."""
    yardstick = Yardstick.of(definition.settings.control)
    return Learnt(definition, definition.initial_state(), yardstick, CostBook(), 0)


class Learner:
    """Keeps one policy's state up to date. Reading `learnt` needs no lock; one thread folds at a time."""

    def __init__(self, store: Store, definition: Definition) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._saved_seq = 0
        self._saved_at = time.monotonic()
        self.pending = Pending(definition.window_s)
        self.narrows = NARROWED.intersection([_algorithm(definition)])
        self.learnt = self._loaded(definition)

    @property
    def definition(self) -> Definition:
        """The policy as it is served."""
        return self.learnt.definition

    def catch_up(self) -> int:
        """Fold what the log has to say, and return how many events that was."""
        count = 0
        with self._lock:
            while batch := self._next():
                self._fold(batch)
                count += len(batch)
                self._save(SAVE_EVERY_EVENTS, None)
        return count

    def save(self, *, now: bool = False) -> bool:
        """Save the state if there is news and it is time for it; False if the policy has another version."""
        with self._lock:
            return self._save(1, None if now else SAVE_EVERY_S)

    def redefine(self, definition: Definition) -> None:
        """Go on under another definition of the same policy; what was learnt stays where it fits."""
        with self._lock:
            before = self.learnt
            old = before.definition
            limit = definition.frozen_at
            fits = (
                (old.record.version, old.features.version)
                == (definition.record.version, definition.features.version)
            ) and (limit is None or before.upto_seq <= limit)
            after = replace(before, definition=definition) if fits else self._loaded(definition)
            if fits and old.yardsticks != definition.yardsticks:
                after = self._measured(after)
            self.learnt = after
            self.narrows = NARROWED.intersection([_algorithm(definition)])

    def _loaded(self, definition: Definition) -> Learnt:
        found = self._saved(definition, 0)
        if found is not None:
            self._saved_seq = found.upto_seq
            return found
        self._saved_seq = 0
        return beginning(definition)

    def _saved(self, definition: Definition, least_seq: int) -> Learnt | None:
        """Return the newest saved state that can be read and goes far enough."""
        record = definition.record
        for saved in self._store.saved_policy_states(
            record.id, record.version, upto_seq=definition.frozen_at
        ):
            if saved.upto_seq < least_seq:
                break
            if not saved.is_whole:
                log.warning("policy_state_damaged", policy=record.name, upto_seq=saved.upto_seq)
                continue
            try:
                learnt = restored(definition, saved.upto_seq, saved.state)
            except StateCorrupt as error:
                log.info("policy_state_unused", policy=record.name, reason=error.message)
                continue
            return learnt if learnt.is_measured else self._measured(learnt)
        return None

    def _measured(self, learnt: Learnt) -> Learnt:
        """Sum yardstick and costs anew, from what the log still has of what is learnt already.

        The state itself may rest on decisions whose retention has ended, so it is kept as it is.
        """
        found = replace(beginning(learnt.definition), state=learnt.state)
        while found.upto_seq < learnt.upto_seq:
            batch = self._store.feedback_after(found.definition.id, found.upto_seq, BATCH)
            batch = [event for event in batch if event.seq <= learnt.upto_seq]
            if not batch:
                break
            said, _ = self._news(found, batch)
            found = found.moved(said, batch[-1].seq)
        return replace(found, upto_seq=learnt.upto_seq)

    def _next(self) -> list[FeedbackEvent]:
        learnt = self.learnt
        batch = self._store.feedback_after(learnt.definition.id, learnt.upto_seq, BATCH)
        limit = learnt.definition.frozen_at
        return batch if limit is None else [event for event in batch if event.seq <= limit]

    def _news(self, learnt: Learnt, batch: Sequence[FeedbackEvent]) -> tuple[News, int]:
        """Return what a batch comes to, and the last event whose decision is gone; 0 if none is."""
        ids = {event.target_id for event in batch}
        # Histories first: an erasure takes a decision along with its history, so that one is whole whose
        # decision is still there afterwards.
        histories = self._store.feedback_of("decision", ids, upto_seq=learnt.upto_seq)
        records = self._store.find_decisions(ids)
        for event in batch:
            histories[event.target_id].append(event)
        gone = max((event.seq for event in batch if event.target_id not in records), default=0)
        return news(learnt.definition, batch, records, histories), gone

    def _fold(self, batch: Sequence[FeedbackEvent]) -> None:
        learnt = self.learnt
        found, gone = self._news(learnt, batch)
        if gone:
            # Erased or past its retention since: then somebody has saved a state that knows its end.
            further = self._saved(learnt.definition, gone)
            if further is not None:
                self.learnt = further
                return
        state = learnt.state
        if len(found.addends):
            state = learnt.definition.policy.fold(state, found.addends)
        self.pending.settle(found.settled)
        # One reference is swapped; who decides meanwhile goes on with the old one.
        self.learnt = replace(learnt.moved(found, batch[-1].seq), state=state)

    def _save(self, least_events: int, least_s: float | None) -> bool:
        learnt = self.learnt
        if learnt.upto_seq - self._saved_seq < least_events:
            return True
        if least_s is not None and time.monotonic() - self._saved_at < least_s:
            return True
        record = learnt.definition.record
        if not self._store.save_policy_state(record.id, record.version, learnt.upto_seq, learnt.to_bytes()):
            return False
        self._saved_seq, self._saved_at = learnt.upto_seq, time.monotonic()
        return True


def _algorithm(definition: Definition) -> str:
    algorithm = definition.settings.algorithm
    return algorithm if isinstance(algorithm, str) else algorithm.type
