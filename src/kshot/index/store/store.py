"""`Store`: everything that kshot remembers, behind one object."""

from kshot.index.store.decisions import DecisionTable
from kshot.index.store.example_reads import ExampleReader
from kshot.index.store.example_writes import ExampleWriter
from kshot.index.store.feedback import FeedbackTable
from kshot.index.store.idempotency import IdempotencyTable
from kshot.index.store.jobs import JobTable
from kshot.index.store.metric_declarations import MetricTable
from kshot.index.store.plans import PlanTable
from kshot.index.store.policies import PolicyTable
from kshot.index.store.policy_states import PolicyStateTable
from kshot.index.store.pools import PoolTable
from kshot.index.store.prompts import PromptTable
from kshot.index.store.scores import ScoreTable
from kshot.index.store.selections import SelectionTable


class Store(
    PoolTable,
    ExampleReader,
    ExampleWriter,
    SelectionTable,
    JobTable,
    PlanTable,
    ScoreTable,
    PromptTable,
    MetricTable,
    PolicyTable,
    PolicyStateTable,
    DecisionTable,
    FeedbackTable,
    IdempotencyTable,
):
    """The truth of a kshot installation: pools, examples, selections, jobs, plans, idempotency keys; scores.

    One base class per noun holds its methods; they share the connections and the writer's lock.

    A method returns once its transaction is committed and on disk: what it acknowledged survives ``kill -9``.
    Records that go in and come out are copies. Any thread may call any method; use one `Store` per database
    and process, since a second one would wait for the file's lock rather than in line.

    Examples
    --------
    >>> with Store("sqlite:///kshot-data/store.sqlite") as store:  # doctest: +SKIP
    ...     pool = store.create_pool("tickets", settings={})
    ...     store.upsert_examples(pool.id, [NewExample(id="a", inputs="hi")], keeps_features=lambda *_: False)
    """
