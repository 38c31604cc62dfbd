"""No embedder at all: every example and every query brings its own vector."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from kshot.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class ExternalEmbedder:
    """Stands in for the caller's own encoder; it knows the dimension and refuses to encode.

    Stateless, so any number of threads may share it.

    Attributes
    ----------
    dimension : int
        Length that every ``vector`` of the pool must have, >= 1.
    """

    dimension: int

    @property
    def fingerprint(self) -> str:
        """The same for every caller: kshot cannot see which model made the vectors."""
        return f"external/{self.dimension}"

    @property
    def token_layers(self) -> None:
        """None: callers bring sentence vectors only."""
        return

    @property
    def default_token_layer(self) -> None:
        """None: callers bring sentence vectors only."""
        return

    def encode(self, texts: Sequence[str], *, token_layer: int | None, spans: bool = False) -> NoReturn:
        """Refuse.

        Raises
        ------
        InvalidInput
            Always; the message says what to pass instead.
        """
        del texts, token_layer, spans
        raise InvalidInput(
            "the pool's embedder is 'external', so no text is embedded here: "
            f"pass `vector` ({self.dimension} numbers) with every example and with every query"
        )

    def encode_layers(self, texts: Sequence[str], layers: Sequence[int]) -> NoReturn:
        """Refuse, as `encode`."""
        del layers
        self.encode(texts, token_layer=None)

    def close(self) -> None:
        """Do nothing: there is nothing to free."""
