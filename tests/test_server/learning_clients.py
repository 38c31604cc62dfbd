"""Applications that decide and tell how it went, and keep a ledger of what they were answered.

Each sends one request after the other. One that was not answered is sent again, word for word, by the next
thread that works for the application, as any client would that lost its connection.
"""

import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any, NamedTuple

import httpx

from kshot.index.store import Store
from kshot.server.services.learning.states import PolicyStates
from tests.test_server.clean_pass import check_state
from tests.test_server.live import wait_until
from tests.test_server.live_policies import CONTEXT, VARIANTS

HOLDING = "holding"
FORGETTING = "forgetting"
OVERDUE = "overdue"
ERASED = "erased"
POLICIES: Mapping[str, Mapping[str, Any]] = {
    HOLDING: {"context": CONTEXT, "control": "brief"},
    FORGETTING: {"context": CONTEXT, "half_life_s": 3_600.0},
    # Outcomes that nobody tells are zeros soon.
    OVERDUE: {"context": CONTEXT, "algorithm": "beta_thompson", "metric": "answered"},
    ERASED: {"context": CONTEXT, "control": "warm"},
}
ANSWERED = {"name": "answered", "window_s": 0.5, "default": 0.0, "late": "fold"}


class Answered(NamedTuple):
    """A decision as the server told it."""

    policy: str
    variant: str
    probability: float | None
    body: Mapping[str, Any]
    """What was asked."""


class _Sent(NamedTuple):
    path: str
    body: Mapping[str, Any]
    note: Callable[[Any], None]
    """What the application does with the answer."""


@dataclass
class Application:
    """One client: what it was answered, and the one request that it may be waiting for."""

    name: str
    rng: random.Random
    decided: dict[str, Answered] = field(default_factory=dict)
    told: dict[tuple[str, str], float] = field(default_factory=dict)
    """Of acknowledged feedback: decision and idempotency key."""
    erased: set[str] = field(default_factory=set)
    """Decisions whose subject's erasure was acknowledged."""
    maybe_told: set[tuple[str, str]] = field(default_factory=set)
    maybe_erased: set[str] = field(default_factory=set)
    waiting: _Sent | None = None
    _numbers: int = 0
    _untold: deque[str] = field(default_factory=deque)

    def work(self, url: str, enough: Event) -> None:
        """Go on until the server is gone, or it is enough."""
        with httpx.Client(base_url=url, timeout=60) as http:
            try:
                if self.waiting is not None:
                    self._send(http, self.waiting)
                while not enough.is_set():
                    self._send(http, self._next())
            except httpx.TransportError:
                return

    def _send(self, http: httpx.Client, request: _Sent) -> None:
        self.waiting = request
        response = http.post(request.path, json=request.body)
        while response.status_code == 503:
            response = http.post(request.path, json=request.body)
        assert response.status_code == 200, f"{request.path}: {response.text}"
        request.note(response.json())
        self.waiting = None

    def _next(self) -> _Sent:
        chance = self.rng.random()
        if self._untold and chance < 0.2:
            return self._feedback()
        if len(self._untold) > 8:
            return self._batch()
        if self.decided and chance < 0.3:
            return self._decision_again()
        if self.told and chance < 0.4:
            return self._feedback_again()
        erasable = [one for one, said in self.decided.items() if said.policy == ERASED]
        if len(erasable) > len(self.erased) + 5 and chance < 0.45:
            return self._erasure()
        return self._decision()

    def _decision(self) -> _Sent:
        self._numbers += 1
        decision_id = f"{self.name}-{self._numbers}"
        policy = self.rng.choice(list(POLICIES))
        session_key = f"session-{self.rng.randrange(8)}" if self.rng.random() < 0.3 else None
        body = {
            "inputs": f"question {self.rng.randrange(1000)}",
            "decision_id": decision_id,
            "session_key": session_key,
            "subject_id": self.name if policy == ERASED else None,
            "render": False,
        }

        def note(reply: Any) -> None:
            assert reply["decision_id"] == decision_id
            self.decided[decision_id] = Answered(policy, reply["variant"], reply["probability"], body)
            if policy != OVERDUE or self.rng.random() < 0.5:
                self._untold.append(decision_id)

        return _Sent(f"/v1/policies/{policy}/decide", body, note)

    def _decision_again(self) -> _Sent:
        decision_id = self.rng.choice([*self.decided])
        said = self.decided[decision_id]
        if decision_id in self.erased:
            return self._decision()

        def note(reply: Any) -> None:
            assert (reply["variant"], reply["probability"]) == (said.variant, said.probability)

        return _Sent(f"/v1/policies/{said.policy}/decide", said.body, note)

    def _item(self, decision_id: str, key: str, value: float) -> dict[str, Any]:
        return {"decision_id": decision_id, "idempotency_key": key, "value": value}

    def _feedback(self) -> _Sent:
        decision_id, key, value = self._untold.popleft(), "first", self.rng.random()
        self.maybe_told.add((decision_id, key))

        def note(reply: Any) -> None:
            self.told[decision_id, key] = value

        return _Sent("/v1/feedback", self._item(decision_id, key, value), note)

    def _feedback_again(self) -> _Sent:
        (decision_id, key), value = self.rng.choice([*self.told.items()])
        if decision_id in self.erased:
            return self._decision()

        def note(reply: Any) -> None:
            assert reply["duplicate"], (decision_id, key)

        return _Sent("/v1/feedback", self._item(decision_id, key, value), note)

    def _batch(self) -> _Sent:
        """Tell all that is left, some of it twice, in any order; and correct some of what was told."""
        values = {(one, "first"): self.rng.random() for one in self._untold}
        self._untold.clear()
        known = [one for one, key in self.told if key == "first" and one not in self.erased]
        right = {
            (one, f"right-{self._numbers}"): self.rng.random()
            for one in self.rng.sample(known, k=min(30, len(known)))
        }
        items = [self._item(one, key, value) for (one, key), value in values.items()]
        items += self.rng.sample(items, k=len(items) // 4)
        items += [{**self._item(one, key, value), "kind": "correct"} for (one, key), value in right.items()]
        self.rng.shuffle(items)
        values |= right
        self.maybe_told |= values.keys()

        def note(reply: Any) -> None:
            assert reply["refused"] == []
            self.told |= values

        return _Sent("/v1/feedback:batch", {"items": items}, note)

    def _erasure(self) -> _Sent:
        """Have every decision about this application's one subject erased."""
        gone = {one for one, said in self.decided.items() if said.policy == ERASED}
        self.maybe_erased |= gone
        self._untold = deque(one for one in self._untold if one not in gone)

        def note(_reply: Any) -> None:
            self.erased |= gone

        return _Sent("/v1/decisions:delete", {"subject_id": self.name}, note)


def check_log(store: Store, applications: Sequence[Application]) -> None:
    """Compare what is stored with what was acknowledged."""
    for one in applications:
        _check_decisions(store, one)
        _check_feedback(store, one)
    _check_sessions(applications)


def _check_decisions(store: Store, application: Application) -> None:
    found = store.find_decisions(application.decided)
    for decision_id, said in application.decided.items():
        if decision_id in application.erased:
            assert decision_id not in found
            continue
        if decision_id not in found:
            assert decision_id in application.maybe_erased, f"{decision_id} is lost"
            continue
        record = found[decision_id]
        assert (record.served, record.propensity) == (said.variant, said.probability)
        assert record.session_key == said.body["session_key"]


def _check_feedback(store: Store, application: Application) -> None:
    targets = {decision_id for decision_id, _ in application.maybe_told} | {*application.decided}
    events = store.feedback_of("decision", targets)
    held = Counter[tuple[str, str]]()
    for decision_id, some in events.items():
        for event in some:
            if event.kind in ("reward", "correct"):
                held[decision_id, event.idempotency_key] += 1
                said = application.told.get((decision_id, event.idempotency_key), event.value)
                assert event.value == said
            else:
                key = decision_id, event.kind
                held[key] += 1
                assert event.kind in ("expire", "cancel")
    assert [key for key, count in held.items() if count > 1] == []
    gone = application.erased | application.maybe_erased
    for key in application.told:
        assert key in held or key[0] in gone, f"{key} is lost"
    for decision_id, key_or_kind in held:
        assert key_or_kind in ("expire", "cancel") or (decision_id, key_or_kind) in application.maybe_told
    for decision_id in application.erased:
        assert {event.kind for event in events[decision_id]} <= {"cancel"}


def _check_sessions(applications: Sequence[Application]) -> None:
    kept: dict[tuple[str, str], set[str]] = {}
    for one in applications:
        for said in one.decided.values():
            # Erasing a subject ends the sessions that its decisions were part of.
            session_key = said.body["session_key"]
            if session_key is not None and said.policy != ERASED:
                kept.setdefault((said.policy, session_key), set()).add(said.variant)
    assert {key: served for key, served in kept.items() if len(served) > 1} == {}


def set_up(http: httpx.Client) -> None:
    """Create the policies that applications ask."""
    http.post("/v1/metrics", json=ANSWERED).raise_for_status()
    for name, settings in POLICIES.items():
        body = {"name": name, "variants": VARIANTS, **settings}
        http.post("/v1/policies", json=body).raise_for_status()


@contextmanager
def at_work(applications: Sequence[Application], urls: Sequence[str]) -> Iterator[None]:
    """Have applications work until the end of the block, each with the first of the servers that is left.

    They start with different ones, and stop early once all are gone.
    """
    enough, failures = Event(), list[BaseException]()

    def guarded(application: Application, own_urls: Sequence[str]) -> None:
        try:
            for url in own_urls:
                application.work(url, enough)
        except BaseException as error:  # noqa: BLE001  (raised again in the test's own thread)
            failures.append(error)

    threads = [
        Thread(target=guarded, args=(one, urls if number % 2 else urls[::-1]))
        for number, one in enumerate(applications)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        enough.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


def check(url: str, store: Store, states: PolicyStates, applications: Sequence[Application]) -> int:
    """Compare what is served and stored with what was acknowledged, and return how many outcomes stay."""
    total = 0
    with httpx.Client(base_url=url, timeout=60) as http:

        def info(name: str) -> Any:
            return http.get(f"/v1/policies/{name}").raise_for_status().json()

        check_log(store, applications)
        # Each is told or runs out of time, and counts either way.
        overdue = store.count_decisions(store.get_policy(OVERDUE).id)
        wait_until(lambda: info(OVERDUE)["outcomes"] == overdue, "the end of every window")
        for name in POLICIES:
            known = info(name)
            check_state(store, states, known)
            total += known["outcomes"] if name != ERASED else 0
    return total
