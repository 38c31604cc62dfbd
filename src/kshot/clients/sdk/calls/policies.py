"""Calls about policies and their decisions."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from kshot.clients.sdk.calls.base import Call, Pages, encode, listed, listing, path_of, present, reader
from kshot.clients.sdk.decision import Decision
from kshot.records import Content
from kshot.schemas.base import Deleted
from kshot.schemas.decisions import DecisionReply, EvaluationReply, PolicyReport
from kshot.schemas.policies import AlgorithmInfo, AlgorithmList, PolicyInfo, PolicyList

EVALUATION_TIMEOUT_S = 600.0


def algorithms() -> Call[list[AlgorithmInfo]]:
    """List every algorithm that a policy may use, with its parameters."""
    return Call(method="GET", path=path_of("algorithms"), read=lambda body: reader(AlgorithmList)(body).data)


def create_policy(
    name: str, variants: Iterable[Mapping[str, Any] | str], **settings: Any
) -> Call[PolicyInfo]:
    """Create a policy over variants.

    Parameters
    ----------
    name : str
    variants : iterable of dict or str
        Each with the fields of `kshot.schemas.policies.VariantCreate`; a text is the name of a variant
        without content, for applications that know what to do with it.
    **settings
        Fields of `kshot.schemas.policies.PolicySettings`, such as ``algorithm``, ``metric``, ``context``,
        ``mode``, ``control``.

    Raises
    ------
    PolicyExists
    InvalidInput
        ``errors`` names the settings that were refused.
    """
    listed_variants = [{"name": one} if isinstance(one, str) else dict(one) for one in variants]
    return Call(
        method="POST",
        path=path_of("policies"),
        body=encode({"name": name, "variants": listed_variants, **settings}),
        creates=True,
        read=reader(PolicyInfo),
    )


def get_policy(name: str) -> Call[PolicyInfo]:
    """Return a policy, its variants and what was seen of them; `PolicyNotFound` if there is none."""
    return Call(method="GET", path=path_of("policies", name), read=reader(PolicyInfo))


def list_policies() -> Pages[PolicyInfo]:
    """Iterate over all policies, by name."""
    return listing(PolicyList, path_of("policies"))


def update_policy(name: str, **settings: Any) -> Call[PolicyInfo]:
    """Change settings of a policy; another algorithm or context learns anew from the log.

    Raises
    ------
    PolicyNotFound
    InvalidInput
        ``errors`` names the settings that were refused.
    """
    return Call(
        method="PATCH", path=path_of("policies", name), body=encode(settings), read=reader(PolicyInfo)
    )


def delete_policy(name: str) -> Call[None]:
    """Delete a policy with its decisions and what it has learnt; `PolicyNotFound` if there is none."""
    return Call(method="DELETE", path=path_of("policies", name), read=lambda _: None)


def add_variant(policy: str, name: str, **content: Any) -> Call[PolicyInfo]:
    """Add a variant; an edit of another one names it as ``parent`` and starts near what that one learnt.

    Parameters
    ----------
    policy, name : str
    **content
        Fields of `kshot.schemas.policies.VariantCreate`.

    Raises
    ------
    PolicyNotFound
    Conflict
        The policy has a variant of that name.
    """
    return Call(
        method="POST",
        path=path_of("policies", policy, "variants"),
        body=encode({"name": name, **content}),
        creates=True,
        read=reader(PolicyInfo),
    )


def update_variant(
    policy: str, name: str, *, status: str | None = None, cost: float | None = None
) -> Call[PolicyInfo]:
    """Pause, retire or activate a variant, or say what it costs.

    Raises
    ------
    PolicyNotFound, VariantNotFound
    """
    return Call(
        method="PATCH",
        path=path_of("policies", policy, "variants", name),
        body=encode(present(status=status, cost=cost)),
        read=reader(PolicyInfo),
    )


def decide(
    policy: str,
    inputs: Content | None = None,
    *,
    variables: Mapping[str, Any] | None = None,
    features: Mapping[str, Any] | None = None,
    vector: Sequence[float] | None = None,
    eligible: Iterable[str] | None = None,
    exclude: Iterable[str] | None = None,
    decision_id: str | None = None,
    session_key: str | None = None,
    subject_id: str | None = None,
    cost_weight: float | None = None,
    budget_spent: float | None = None,
    served: str | None = None,
    defer_activation: bool = False,
    render: bool = True,
) -> Call[Decision]:
    """Ask a policy which variant to use for one query.

    Parameters
    ----------
    policy : str
    inputs : str or dict, optional
        The query: what the decision depends on.
    variables : dict, optional
        For the variant's prompt template.
    features : dict, optional
        Values of the request features that the policy declares.
    vector : sequence of float, optional
        The query's embedding, instead of computing it.
    eligible, exclude : iterable of str, optional
        Only these variants; not these. Default: all that are active.
    decision_id : str, optional
        The caller's own id: the same again gives the same answer.
    session_key : str, optional
        One session keeps one variant.
    subject_id : str, optional
        Whose data this is, for deletion.
    cost_weight : float, optional
        How much cost counts for this request; 0: quality alone. Default: the policy's.
    budget_spent : float, optional
        Share of a budget that is spent, 0 to 1: leaves out what is dear for its quality.
    served : str, optional
        What the caller serves, where the policy is an apprentice.
    defer_activation : bool
        Whether the decision only counts once ``activate`` says that it was shown.
    render : bool
        Whether to put the variant's prompt together.

    Returns
    -------
    Decision

    Raises
    ------
    PolicyNotFound
    DecisionConflict
        ``decision_id`` was used for another request.
    InvalidInput
        No variant may be served, or a value is not allowed.
    """
    body = present(
        inputs=inputs,
        variables=variables,
        features=features,
        vector=None if vector is None else [float(x) for x in vector],
        eligible=listed(eligible),
        exclude=listed(exclude),
        decision_id=decision_id,
        session_key=session_key,
        subject_id=subject_id,
        cost_weight=cost_weight,
        budget_spent=budget_spent,
        served=served,
    ) | {"defer_activation": defer_activation, "render": render}
    return Call(
        method="POST",
        path=path_of("policies", policy, "decide"),
        body=encode(body),
        creates=decision_id is None,
        read=lambda data: Decision(reader(DecisionReply)(data)),
    )


def get_decision(decision_id: str) -> Call[Decision]:
    """Return a decision and what it has come to; `DecisionNotFound` if there is none."""
    return Call(
        method="GET",
        path=path_of("decisions", decision_id),
        read=lambda data: Decision(reader(DecisionReply)(data)),
    )


def activate(decision_id: str) -> Call[Decision]:
    """Say that a decision was shown; `DecisionNotFound` or `DecisionConflict` if it cannot be."""
    return _told(decision_id, "activate", {})


def cancel_decision(decision_id: str) -> Call[Decision]:
    """Say that a decision was not shown and never will be: nothing is learnt from it."""
    return _told(decision_id, "cancel", {})


def report_served(decision_id: str, variant: str) -> Call[Decision]:
    """Say that another variant was shown than was chosen: it gets the outcome, and no probability."""
    return _told(decision_id, "served", {"variant": variant})


def _told(decision_id: str, what: str, body: Mapping[str, Any]) -> Call[Decision]:
    return Call(
        method="POST",
        path=path_of("decisions", decision_id, what),
        body=encode(body),
        read=lambda data: Decision(reader(DecisionReply)(data)),
    )


def delete_decisions(subject_id: str) -> Call[int]:
    """Delete every decision about a subject and what was learnt from it; returns how many there were."""
    return Call(
        method="POST",
        path=path_of("decisions:delete"),
        body=encode({"subject_id": subject_id}),
        read=lambda data: reader(Deleted)(data).deleted,
    )


def policy_report(policy: str, *, periods: int = 24) -> Call[PolicyReport]:
    """Return traffic and reward of every variant, over all time and in periods, and alarms.

    Raises
    ------
    PolicyNotFound
    """
    return Call(
        method="GET",
        path=path_of("policies", policy, "report"),
        params={"periods": str(periods)},
        read=reader(PolicyReport),
    )


def evaluate_policy(
    policy: str,
    targets: Iterable[Mapping[str, Any] | str] = (),
    *,
    estimator: str = "clipped_dr",
    since: datetime | None = None,
    until: datetime | None = None,
    seed: int = 0,
) -> Call[EvaluationReply]:
    """Estimate from the log what other policies would have earned.

    Parameters
    ----------
    policy : str
    targets : iterable of dict or str
        Fields of `kshot.schemas.decisions.EvaluationTarget`; a text is the name of a variant that is always
        served. Default: every active variant alone, and the policy's own algorithm. One that learns does so
        from the earlier half of the decisions and is estimated on the later half.
    estimator : str
        ``clipped_dr``, ``dr``, ``ips``, ``clipped_ips``, ``snips``, ``dm``, ``sndr``, ``switch`` or ``dros``.
    since, until : datetime, optional
        Only decisions made in between.
    seed : int
        Of the bootstrap.

    Raises
    ------
    PolicyNotFound, InvalidInput
    """
    wanted = [{"variant": one} if isinstance(one, str) else dict(one) for one in targets]
    body = present(since=since, until=until) | {"targets": wanted, "estimator": estimator, "seed": seed}
    return Call(
        method="POST",
        path=path_of("policies", policy, "evaluate"),
        body=encode(body),
        timeout_s=EVALUATION_TIMEOUT_S,
        read=reader(EvaluationReply),
    )
