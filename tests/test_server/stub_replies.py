"""What the stub services answer with: one of each, with just the fields a test may choose."""

from datetime import UTC, datetime

from kshot.records import JobState, Status
from kshot.schemas.examples import ExampleInfo
from kshot.schemas.operations import JobInfo
from kshot.schemas.plans import PlanInfo
from kshot.schemas.pools import PoolInfo, PoolSettings
from kshot.schemas.selections import Demonstration, SelectionReply, SetStatistics, Usage

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def pool_info(name: str) -> PoolInfo:
    return PoolInfo(
        name=name,
        settings=PoolSettings(),
        embedder_fingerprint=None,
        dimension=None,
        version=0,
        examples=0,
        indexed_version=0,
        created_at=NOW,
        updated_at=NOW,
    )


def example_info(example_id: str) -> ExampleInfo:
    return ExampleInfo(
        id=example_id,
        inputs="a",
        outputs="b",
        metadata={},
        split=None,
        status=Status.APPROVED,
        subject_id=None,
        group=None,
        content_hash="0",
        added_in=1,
        created_at=NOW,
        updated_at=NOW,
    )


def selection_reply(k: int = 2) -> SelectionReply:
    return SelectionReply(
        selection_id="s1",
        pool="tickets",
        pool_version=1,
        method="fused",
        demonstrations=[
            Demonstration(
                id=f"ex-{rank}",
                rank=rank,
                part="dynamic",
                inputs={"question": "Where is my parcel? " * 10},
                outputs="delivery",
                metadata={"lang": "en", "priority": 2},
                score=0.5,
                gain=0.5,
                similarity=0.5,
                tokens=60,
                label="delivery",
            )
            for rank in range(k)
        ],
        usage=Usage(tokens=60 * k, estimated=True, eligible=100, candidates=64),
        set=SetStatistics(mean_pairwise=0.4, labels={"delivery": k}),
        prefix_hash=None,
        timing_ms={"total": 1.0},
    )


def job_info(job_id: str, kind: str, state: JobState) -> JobInfo:
    return JobInfo(
        id=job_id,
        kind=kind,
        pool="tickets",
        state=state,
        done=0,
        total=None,
        phase=None,
        result=None,
        error=None,
        created_at=NOW,
        updated_at=NOW,
    )


def plan_info(plan_id: str, state: JobState) -> PlanInfo:
    return PlanInfo(
        id=plan_id,
        pool="tickets",
        state=state,
        phase=None,
        done=0,
        total=None,
        request={"pool": "tickets", "budget": 3},
        result=None,
        error=None,
        created_at=NOW,
        updated_at=NOW,
    )
