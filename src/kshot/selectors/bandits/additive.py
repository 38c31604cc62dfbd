"""What policies share whose state is sums per arm: beginning, folding, merging, restoring."""

from typing import Protocol, TypeAlias

from kshot.errors import InvalidInput, InvalidParameter, StateCorrupt
from kshot.selectors.bandits.addends import Addends
from kshot.selectors.bandits.decaying import DecayingState
from kshot.selectors.bandits.sums import SumsState

ArmsState: TypeAlias = SumsState | DecayingState
"""Sums per arm, exact or forgetting."""

FEATURES = "context"
"""What states are called that learn from contexts as they are."""


def initial(dimension: int, half_life_s: float | None, features: str = FEATURES) -> ArmsState:
    """Return the state before any outcome: exact, or forgetting where a half-life in seconds is given."""
    if half_life_s is None:
        return SumsState(dimension, features)
    return DecayingState(half_life_s, dimension, features)


def merged(state: ArmsState, other: ArmsState) -> ArmsState:
    """Return the state that has the outcomes of both, which have none in common.

    Raises
    ------
    InvalidInput
        One forgets and the other does not, or they differ in features or half-life.
    """
    if isinstance(state, SumsState) and isinstance(other, SumsState):
        return state.merge(other)
    if isinstance(state, DecayingState) and isinstance(other, DecayingState):
        return state.merge(other)
    raise InvalidInput("a state that forgets cannot be merged with one that does not")


def restored(blob: bytes, half_life_s: float | None) -> ArmsState:
    """Return the state that ``to_bytes`` gave.

    Raises
    ------
    StateCorrupt
        The bytes are damaged, or of a state of another half-life.
    """
    state: ArmsState = SumsState.from_bytes(blob) if half_life_s is None else DecayingState.from_bytes(blob)
    if isinstance(state, DecayingState) and state.half_life_s != half_life_s:
        raise StateCorrupt(f"the saved state has half-life {state.half_life_s:g} s, wanted {half_life_s:g} s")
    return state


class _Learner(Protocol):
    @property
    def contextual(self) -> bool: ...

    @property
    def half_life_s(self) -> float | None: ...


class AdditivePolicy:
    """The half of a policy that learns; a policy inherits it, adds ``choose``, and says two things.

    ``contextual`` tells whether contexts are kept, ``half_life_s`` how fast outcomes are forgotten, None for
    never; each is a class constant or a field.
    """

    __slots__ = ()

    def init(self: _Learner, dimension: int) -> ArmsState:
        """Return the state before any outcome.

        Raises
        ------
        InvalidParameter
            Contexts matter and have no feature, not even the intercept.
        """
        if self.contextual and dimension < 1:
            raise InvalidParameter(f"contexts have {dimension} features, allowed >= 1")
        return initial(dimension if self.contextual else 0, self.half_life_s)

    def fold(self, state: ArmsState, addends: Addends) -> ArmsState:
        """Return the state after some outcomes."""
        return state.fold(addends)

    def merge(self, state: ArmsState, other: ArmsState) -> ArmsState:
        """Return the state that has seen the outcomes of both."""
        return merged(state, other)

    def restore(self: _Learner, blob: bytes) -> ArmsState:
        """Return the state that ``to_bytes`` gave."""
        state = restored(blob, self.half_life_s)
        if state.features != FEATURES:
            raise StateCorrupt(f"the saved state is of {state.features}, wanted {FEATURES}")
        if bool(state.dimension) is not self.contextual:
            raise StateCorrupt(
                f"the saved state keeps {state.dimension} features of contexts, wanted "
                f"{'at least 1' if self.contextual else 'none'}"
            )
        return state
