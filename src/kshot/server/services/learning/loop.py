"""The learning loop of one process: its parts, joined; started and stopped together."""

from kshot.index.store import Store
from kshot.server.logs import get_logger
from kshot.server.metrics import Metrics
from kshot.server.services.learning.contexts import Contexts
from kshot.server.services.learning.deciding import Deciding
from kshot.server.services.learning.decision_log import DecisionLog
from kshot.server.services.learning.decisions import DecisionService
from kshot.server.services.learning.drawing import control_is_better
from kshot.server.services.learning.policies import PolicyService
from kshot.server.services.learning.shown import VariantPrompts
from kshot.server.services.learning.states import PolicyStates
from kshot.server.services.learning.sweeping import Sweeper
from kshot.server.services.prompts import PromptService
from kshot.server.services.registry import Embedders, PoolRegistry

log = get_logger(__name__)


class LearningLoop:
    """Policies and decisions over one store, and the two threads behind them."""

    def __init__(
        self,
        store: Store,
        registry: PoolRegistry,
        embedders: Embedders,
        prompts: PromptService,
        metrics: Metrics,
    ) -> None:
        contexts = Contexts(registry, embedders)
        self._metrics = metrics
        self._guarded: set[int] = set()
        self._log = DecisionLog(store)
        self.states = PolicyStates(store, contexts)
        self._sweeper = Sweeper(store, self.states)
        deciding = Deciding(store, self.states, contexts, self._log, VariantPrompts(prompts), metrics)
        self.decisions = DecisionService(store, self.states, deciding)
        self.policies = PolicyService(store, self.states, contexts, prompts, metrics)

    def start(self) -> None:
        """Open every policy and start following the log; blocks until all states are up to date."""
        self._log.start()
        self.states.start(self._sweeper.sweep, self._report)

    def close(self) -> None:
        """Record the decisions that wait, save the states, and stop."""
        self._log.close()
        self.states.close()

    def _report(self) -> None:
        for learner in self.states.all():
            learnt = learner.learnt
            guarded = control_is_better(learnt.yardstick)
            self._metrics.policy_stands(learnt.definition.name, learnt.state.events, guarded=guarded)
            if guarded and learnt.definition.id not in self._guarded:
                log.warning("control_does_better", policy=learnt.definition.name)
            (self._guarded.add if guarded else self._guarded.discard)(learnt.definition.id)
