"""Prometheus metrics of one app, in a registry of their own.

Label values come from a bounded set: pools, methods, phases, route templates. Never from a text or an id.
"""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

_BUCKETS_S = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 4.0)
_BUCKETS_NATS = (0.0001, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
_MOST_NATS = 9999.0
"""Where one way rules a token out and the other does not; a sum of infinity would tell nothing any more."""
_METHODS = frozenset({"GET", "POST", "PATCH", "PUT", "DELETE", "HEAD", "OPTIONS"})


class Metrics:
    """What the service counts and times; services call the verbs, ``/metrics`` calls `render`."""

    media_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        ProcessCollector(registry=registry)
        self._select_seconds = Histogram(
            "kshot_select_seconds",
            "Time of one phase of a selection.",
            ("pool", "method", "phase"),
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._selects = Counter(
            "kshot_select", "Selections by outcome.", ("pool", "outcome"), registry=registry
        )
        self._gaps = Counter(
            "kshot_coverage_gaps", "Selections for which nothing came close.", ("pool",), registry=registry
        )
        self._request_seconds = Histogram(
            "kshot_http_request_seconds",
            "Time from the first byte of a request to the last of its answer.",
            ("method", "route"),
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._requests = Counter(
            "kshot_http_requests", "Requests by answer.", ("method", "route", "status"), registry=registry
        )
        self._index_examples = Gauge(
            "kshot_index_examples", "Examples that can be selected.", ("pool",), registry=registry
        )
        self._queue_depth = Gauge(
            "kshot_queue_depth", "Work waiting or running, by queue.", ("queue",), registry=registry
        )

        self._policy_choices = Counter(
            "kshot_policy_choice", "Decisions by variant served.", ("policy", "variant"), registry=registry
        )
        self._decisions = Counter(
            "kshot_decisions", "Requests to decide, by outcome.", ("policy", "outcome"), registry=registry
        )
        self._policy_outcomes = Gauge(
            "kshot_policy_outcomes", "Outcomes that a policy's state holds.", ("policy",), registry=registry
        )
        self._policy_guarded = Gauge(
            "kshot_policy_guarded",
            "1 where a policy's control does better than the policy, and is served instead.",
            ("policy",),
            registry=registry,
        )
        self._score_cache = Counter(
            "kshot_score_cache", "Likelihoods by where they were found.", ("outcome",), registry=registry
        )
        self._scores = Counter(
            "kshot_scores",
            "Likelihoods asked of the scorer, by the mode that gave one or the code of why there is none.",
            ("outcome",),
            registry=registry,
        )
        self._scorer_requests = Counter(
            "kshot_scorer_requests", "Requests to the scorer's server.", ("outcome",), registry=registry
        )
        self._scorer_tokens = Counter(
            "kshot_scorer_prompt_tokens", "Prompt tokens in these requests.", ("outcome",), registry=registry
        )
        self._audit = Histogram(
            "kshot_scorer_audit_nats",
            "By how much two ways to score the same item differ, per token.",
            buckets=_BUCKETS_NATS,
            registry=registry,
        )
        self._audit_alarms = Counter(
            "kshot_scorer_audit_alarms", "How often such differences were too large.", registry=registry
        )

    def select_timed(self, pool: str, method: str, timing_ms: Mapping[str, float]) -> None:
        """Record how long each phase of one selection took, in milliseconds."""
        for phase, took_ms in timing_ms.items():
            self._select_seconds.labels(pool, method, phase).observe(took_ms / 1000)

    def select_ended(self, pool: str, outcome: str) -> None:
        """Count one selection; outcome is ok, degraded, abstained or error."""
        self._selects.labels(pool, outcome).inc()

    def gap_found(self, pool: str) -> None:
        """Count one selection whose nearest example was too far away."""
        self._gaps.labels(pool).inc()

    def request_ended(self, method: str, route: str, status: int, took_s: float) -> None:
        """Count and time one request; ``route`` is the template, not the path."""
        method = method if method in _METHODS else "other"
        self._request_seconds.labels(method, route).observe(took_s)
        self._requests.labels(method, route, str(status)).inc()

    def index_holds(self, pool: str, examples: int) -> None:
        """Set how many examples of a pool can be selected."""
        self._index_examples.labels(pool).set(examples)

    def queue_holds(self, queue: str, depth: int) -> None:
        """Set how much work a queue holds."""
        self._queue_depth.labels(queue).set(depth)

    def scores_looked_up(self, outcome: str, number: int) -> None:
        """Count likelihoods; outcome is memory, store or miss."""
        self._score_cache.labels(outcome).inc(number)

    def decided(self, policy: str, variant: str, outcome: str) -> None:
        """Count one answer of ``decide``; outcome is new or repeated, and only new ones are choices."""
        self._decisions.labels(policy, outcome).inc()
        if outcome == "new":
            self._policy_choices.labels(policy, variant).inc()

    def decision_refused(self, policy: str) -> None:
        """Count one request to decide that came to nothing."""
        self._decisions.labels(policy, "refused").inc()

    def policy_stands(self, policy: str, outcomes: int, *, guarded: bool) -> None:
        """Set how many outcomes a policy's state holds, and whether its control takes its place."""
        self._policy_outcomes.labels(policy).set(outcomes)
        self._policy_guarded.labels(policy).set(guarded)

    def forget_policy(self, policy: str) -> None:
        """Drop every series of a deleted policy."""
        for metric in (self._policy_choices, self._decisions, self._policy_outcomes, self._policy_guarded):
            metric.remove_by_labels({"policy": policy})

    def scores_computed(self, outcome: str, number: int) -> None:
        """Count likelihoods asked of the scorer; outcome is a mode or an error's code."""
        self._scores.labels(outcome).inc(number)

    def scorer_asked(self, outcome: str, prompt_tokens: int) -> None:
        """Count one attempt to ask the scorer's server, by its outcome."""
        self._scorer_requests.labels(outcome).inc()
        self._scorer_tokens.labels(outcome).inc(prompt_tokens)

    def scorer_audited(self, difference_nats: float) -> None:
        """Record by how much two ways to score an item differ, per token."""
        self._audit.observe(min(difference_nats, _MOST_NATS))

    def scorer_alarmed(self) -> None:
        """Count that two ways to score differ too much."""
        self._audit_alarms.inc()

    def forget_pool(self, pool: str) -> None:
        """Drop every series of a deleted pool."""
        for metric in (self._select_seconds, self._selects, self._gaps, self._index_examples):
            metric.remove_by_labels({"pool": pool})

    def render(self) -> bytes:
        """Return every metric in the text format of Prometheus."""
        return generate_latest(self._registry)
