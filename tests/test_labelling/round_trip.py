"""The scenario of the round trips: which tasks go out, and what two annotators do with them."""

from pathlib import Path
from typing import NamedTuple

from kshot.labelling import Task

FIXTURES = Path(__file__).parent / "fixtures"

LABELS = ("refund_request", "order_status", "billing & payment", "other")
PLAN = "plan-1"
POOL = "tickets"
ANNA = "anna@example.com"
BEN = "ben@example.com"

TEXTS = (
    "Where is my parcel? It was sent nine days ago.",
    "Money back please: the box was empty.",
    "Charged twice for one lamp — see “order 17”",
    'Schöne Grüße, but the label says <b>"fragile"</b> & it was not.',
    "the tracking page shows nothing",
    "Do you sell gift cards?",
    "=1+1 looks like a formula, and is a question about my bill",
    "second line\nof a ticket, with a tab\there",
)


class Act(NamedTuple):
    """What an annotator does with the task of a rank: answer, or skip with None."""

    rank: int
    who: str
    label: str | None


ACTS = (
    Act(1, ANNA, "order_status"),
    Act(2, ANNA, "refund_request"),
    Act(2, BEN, "refund_request"),
    # They differ, and Ben has the last word.
    Act(3, ANNA, "refund_request"),
    Act(3, BEN, "billing & payment"),
    # Anna thinks again.
    Act(4, ANNA, "order_status"),
    Act(4, ANNA, "other"),
    Act(5, ANNA, None),
    # Ben skips what Anna answers.
    Act(6, ANNA, "other"),
    Act(6, BEN, None),
    Act(7, BEN, "billing & payment"),
)
"""In the order of time. Nobody looks at rank 8."""

ANSWERS = {
    "t1": "order_status",
    "t2": "refund_request",
    "t3": "billing & payment",
    "t4": "other",
    "t6": "other",
    "t7": "billing & payment",
}
"""What comes home."""


def tasks() -> list[Task]:
    """Return the tasks, last rank first, as their order in a file must not matter."""
    made = [
        Task(
            id=f"t{rank}",
            inputs=text,
            metadata={"lang": "en", "priority": rank % 3},
            rank=rank,
            gain=1 / rank,
            plan_id=PLAN,
            pool=POOL,
            suggestion="order_status" if rank == 1 else None,
        )
        for rank, text in enumerate(TEXTS, start=1)
    ]
    return made[::-1]


def tasks_of_fields() -> list[Task]:
    """Return tasks whose inputs have names."""
    return [
        Task(
            id=f"f{rank}",
            inputs={"subject": f"Ticket {rank}", "body": text, "attachments": rank},
            rank=rank,
            gain=0.5,
            plan_id=PLAN,
            pool=POOL,
        )
        for rank, text in enumerate(TEXTS[:4], start=1)
    ]
