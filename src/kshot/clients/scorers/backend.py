"""What scorers over vLLM ask, in the words of its HTTP interface: a server, or an engine in this process."""

from collections.abc import Mapping
from typing import Any, Protocol

COMPLETIONS = "/v1/completions"
RENDER = "/v1/completions/render"


class Backend(Protocol):
    """Answers requests.

    Attributes
    ----------
    kind : str
        As in `Capabilities.backend`.
    disconnections : int
        How often it was lost: what answers afterwards may be another model.
    """

    kind: str
    disconnections: int

    async def get(self, path: str) -> Any:
        """Return what is found there, as of parsed JSON."""
        ...

    async def post(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        tokens: int = 0,
        reads: bool = False,
        divisible: bool = False,
        generated: int = 0,
    ) -> Any:
        """Return the answer to a request, as of parsed JSON.

        Parameters
        ----------
        tokens : int
            Prompt tokens that have to be computed.
        reads : bool
            Whether log-probabilities of all of them are asked for.
        generated : int
            Tokens that are then generated, one after the other.
        divisible : bool
            The caller will ask for parts of it where it breaks.

        Raises
        ------
        NotAnswered, Broke, Rejected, ScorerUnavailable
            As `kshot.clients.scorers.endpoint` has it.
        """
        ...

    async def cache_block_tokens(self) -> int | None:
        """Return how many tokens a block of its prefix cache has; None if it has no such cache."""
        ...

    async def close(self) -> None:
        """Free what is held; a second call does nothing."""
        ...
