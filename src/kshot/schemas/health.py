"""Pool health on the wire: repeated examples, doubtful labels, diversity."""

from pydantic import Field

from kshot.schemas.base import Reply


class DuplicatePair(Reply):
    """Two examples that nearly equal one another."""

    id: str
    other_id: str
    similarity: float = Field(description="cosine of their vectors")


class DuplicateHealth(Reply):
    """How many examples another one nearly equals."""

    threshold: float = Field(description="cosine from which on two examples count as near-duplicates")
    rate: float = Field(description="share of the measured examples that have a near-duplicate")
    measured: int = Field(description="examples compared with all others: all of them, or a random sample")
    pairs: list[DuplicatePair] = Field(description="the most similar of them")


class SuspectedLabel(Reply):
    """An example whose label the labels around it contradict."""

    id: str
    label: str
    suggested: str = Field(description="the label that its neighbours agree on")
    agreement: float = Field(description="share of its nearest labelled examples that carry it")
    similarity: float = Field(description="mean cosine of these to the example")


class LabelHealth(Reply):
    """How labels are spread, and which ones look wrong."""

    labels: int
    labelled: int = Field(description="examples that have a label")
    entropy: float = Field(description="of the shares of the labels, in nats")
    evenness: float = Field(description="entropy divided by that of equal shares; 1 is perfectly even")
    smallest: int = Field(description="examples of the rarest label")
    largest: int = Field(description="examples of the most frequent label")
    neighbours: int = Field(description="nearest labelled examples whose labels were compared")
    agreement: float = Field(description="share of them that has to agree on one other label")
    measured: int = Field(description="labelled examples looked at: all of them, or a random sample")
    suspected: int = Field(description="those of them none of whose neighbours carries their label")
    suspects: list[SuspectedLabel] = Field(description="the most suspect of them")


class PoolHealth(Reply):
    """What may be wrong with a pool's examples; retired ones are left out."""

    examples: int = Field(description="examples with a vector that were looked at")
    duplicates: DuplicateHealth | None = Field(description="null below 2 examples")
    log_det_distance: float | None = Field(
        description="how far the examples are from pointing in all directions, in nats each: 0 where the "
        "most diverse ones are orthogonal; null below 2 examples"
    )
    log_det_examples: int = Field(description="examples that the distance is of; compare equal numbers only")
    labels: LabelHealth | None = Field(description="null without labels")
    took_s: float = Field(description="what measuring took; the result is kept until the pool changes")
