"""What a server with a prefix cache has to compute of a prompt, counted in tokens."""

from collections.abc import Sequence
from itertools import pairwise

BLOCK_TOKENS = 16


class PrefixCache:
    """Remembers whole blocks of tokens by everything up to their end; forgets nothing.

    As in vLLM, at least the last token of a prompt is always computed.

    Parameters
    ----------
    block_tokens : int
    """

    def __init__(self, block_tokens: int = BLOCK_TOKENS) -> None:
        self.block_tokens = block_tokens
        self._blocks: set[int] = set()

    def cached_tokens(self, prompt: Sequence[int]) -> int:
        """Return how many tokens at the start of ``prompt`` need not be computed."""
        found = 0
        for key in self._keys(prompt)[: (len(prompt) - 1) // self.block_tokens]:
            if key not in self._blocks:
                break
            found += 1
        return found * self.block_tokens

    def store(self, prompt: Sequence[int]) -> None:
        """Remember the whole blocks of ``prompt``."""
        self._blocks.update(self._keys(prompt))

    def clear(self) -> None:
        """Forget everything."""
        self._blocks.clear()

    def _keys(self, prompt: Sequence[int]) -> list[int]:
        keys: list[int] = []
        for start, end in pairwise(range(0, len(prompt) + 1, self.block_tokens)):
            keys.append(hash((keys[-1] if keys else None, tuple(prompt[start:end]))))
        return keys
