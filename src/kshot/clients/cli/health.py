"""Pool health, as tables."""

from kshot.clients.cli import output
from kshot.schemas.health import DuplicateHealth, LabelHealth, PoolHealth

_SHOWN = 15


def print_health(health: PoolHealth) -> None:
    """Print what may be wrong with a pool's examples."""
    duplicates, labels = health.duplicates, health.labels
    facts: list[tuple[str, str]] = []
    if duplicates is not None:
        facts.append((f"near-duplicates (cosine {duplicates.threshold:g})", _rate(duplicates, health)))
    if health.log_det_distance is not None:
        of = f"log-determinant distance of the {health.log_det_examples} most diverse"
        facts.append((of, f"{health.log_det_distance:.3f} nats (0 is orthogonal)"))
    if labels is not None:
        facts += [
            ("labels", f"{labels.labels}, of {labels.smallest:,} to {labels.largest:,} examples"),
            ("entropy of labels", f"{labels.entropy:.3f} nats, {_percent(labels.evenness)} of even"),
            ("doubtful labels", _doubtful(labels)),
        ]
    output.print_table(["health", f"of {health.examples:,} examples"], facts)
    if duplicates is not None and duplicates.pairs:
        output.print_table(
            ["near-duplicate", "of", "similarity"],
            [[pair.id, pair.other_id, pair.similarity] for pair in duplicates.pairs],
        )
    if labels is not None and labels.suspects:
        output.print_table(
            ["doubtful", "label", "suggested", "agreement", "similarity"],
            [
                [one.id, one.label, one.suggested, _percent(one.agreement), one.similarity]
                for one in labels.suspects[:_SHOWN]
            ],
        )
        if labels.suspected > _SHOWN:
            output.note(
                f"{labels.suspected - _SHOWN:,} more doubtful labels; --json has {len(labels.suspects)}"
            )


def _rate(duplicates: DuplicateHealth, health: PoolHealth) -> str:
    of = "" if duplicates.measured == health.examples else f" of {duplicates.measured:,} drawn at random"
    return f"{_percent(duplicates.rate)}{of}"


def _doubtful(labels: LabelHealth) -> str:
    whose = "labelled" if labels.measured == labels.labelled else "labelled, drawn at random"
    return f"{labels.suspected:,} of {labels.measured:,} {whose}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
