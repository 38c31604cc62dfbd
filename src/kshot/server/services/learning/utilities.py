"""What examples were worth, by the feedback on the selections that showed them."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from math import ldexp

import numpy as np
from scipy.sparse import csr_array

from kshot.errors import FieldError, MetricNotFound
from kshot.index.store import Store
from kshot.records import FeedbackEvent, Selection
from kshot.schemas.feedback import ExampleUtility, UtilityList
from kshot.selectors.bandits.feedback import LoggedDecision
from kshot.selectors.bandits.grid import REWARD_BITS
from kshot.selectors.bandits.ledger import Account
from kshot.selectors.bandits.metric_rules import MetricRule, RewardRules
from kshot.selectors.utility import MAX_COLUMNS, presence_effects
from kshot.server.services.learning.events import outcome_event
from kshot.server.services.learning.metrics import DEFAULT_METRIC, ensure_metric, rule_of
from kshot.server.validation import refusal

_EVENTS = 50_000
_NO_CONTEXT = np.zeros(0, np.int64)
_SINCE = timedelta(days=3650)


def utility_page(store: Store, pool_id: int, metric: str, cursor: str | None, limit: int) -> UtilityList:
    """Return one page of estimates for a pool's examples, those that hurt most first.

    The newest 50,000 outcomes count, and the 4,096 examples that were shown most often.

    Raises
    ------
    MetricNotFound
        The metric is not declared.
    """
    start = _offset(cursor)
    try:
        rule = rule_of(store.get_metric(metric))
    except MetricNotFound:
        if metric != DEFAULT_METRIC:
            raise
        rule = ensure_metric(store, metric)
    events = store.selection_feedback(metric, since=datetime.now(UTC) - _SINCE, limit=_EVENTS)
    found = store.find_selections(pool_id, list({event.target_id for event in events}))
    id_to_reward = selection_rewards(found, events, metric, rule)
    selections = [one for one in found if one.id in id_to_reward]
    estimates = example_utilities(selections, [id_to_reward[one.id] for one in selections])
    page = estimates[start : start + limit]
    more = start + limit < len(estimates)
    return UtilityList(
        data=page,
        selections=len(selections),
        metric=metric,
        next_cursor=str(start + limit) if more else None,
    )


def selection_rewards(
    selections: Sequence[Selection], events: Sequence[FeedbackEvent], metric: str, rule: MetricRule
) -> dict[str, float]:
    """Return the reward, 0 to 1, that each selection's events come to, in the order of the log."""
    rules = RewardRules({metric: rule})
    id_to_account = {
        one.id: Account.opened(LoggedDecision(one.id, one.id, _NO_CONTEXT, one.created_at.timestamp()), rules)
        for one in selections
    }
    for event in events:
        account = id_to_account.get(event.target_id)
        if account is not None:
            id_to_account[event.target_id] = account.after(outcome_event(event))
    id_to_outcome = {target: account.outcome() for target, account in id_to_account.items()}
    return {
        target: ldexp(known.reward, -REWARD_BITS) for target, known in id_to_outcome.items() if known.known
    }


def example_utilities(selections: Sequence[Selection], values: Sequence[float]) -> list[ExampleUtility]:
    """Return an estimate per example that a selection showed, those that hurt most first."""
    shown = [[str(one["id"]) for one in selection.demonstrations] for selection in selections]
    if len(selections) < 2 or not any(shown):
        return []
    often = Counter(example for some in shown for example in some).most_common(MAX_COLUMNS)
    column_of = {example: column for column, (example, _) in enumerate(sorted(often))}
    cells = [
        (row, column_of[example])
        for row, some in enumerate(shown)
        for example in dict.fromkeys(some)
        if example in column_of
    ]
    rows, columns = (np.array(part, np.int64) for part in zip(*cells, strict=True))
    matrix = csr_array((np.ones(len(cells)), (rows, columns)), shape=(len(shown), len(column_of)))
    found = presence_effects(matrix, np.array(values))
    estimates = [
        ExampleUtility(
            example_id=example,
            shown=int(found.counts[column]),
            mean=float(found.means[column]),
            effect=float(found.effects[column]),
            standard_error=float(found.standard_errors[column]),
            low=float(found.low[column]),
            high=float(found.high[column]),
            quarantined=bool(found.harmful[column]),
        )
        for example, column in column_of.items()
    ]
    return sorted(estimates, key=lambda one: (not one.quarantined, one.high, one.example_id))


def _offset(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdecimal()):
        raise refusal([FieldError("/cursor", "is none that a listing gave")])
    return int(cursor)
