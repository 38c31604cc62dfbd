"""How much of a prompt a back end's prefix cache keeps, out of what the back end says of itself."""

import re

DEFAULT_BLOCK_TOKENS = 16
"""vLLM's on most devices; on a CPU it is 128."""
_CONFIGURATION = re.compile(r"^vllm:cache_config_info\{(.*)\} \S+$", re.MULTILINE)
_BLOCK = re.compile(r'(?:^|,)block_size="(\d+)"')
_OFF = re.compile(r'(?:^|,)enable_prefix_caching="False"')


def parse_block_tokens(metrics: str) -> int | None:
    """Return how many tokens a block of the prefix cache has, as vLLM's ``/metrics`` says it.

    None without a cache; `DEFAULT_BLOCK_TOKENS` where nothing is said. Of several engines the one that keeps
    least.
    """
    sizes = []
    for labels in _CONFIGURATION.findall(metrics):
        if _OFF.search(labels):
            return None
        size = _BLOCK.search(labels)
        if size is not None and int(size.group(1)) > 0:
            sizes.append(int(size.group(1)))
    return max(sizes, default=DEFAULT_BLOCK_TOKENS)


def computed_tokens(prompt_tokens: int, kept_tokens: int, block_tokens: int | None) -> int:
    """Return how many tokens of a prompt are computed after one that shares its first ``kept_tokens``.

    Whole blocks are kept, and at least the last token is computed.
    """
    if block_tokens is None:
        return prompt_tokens
    return prompt_tokens - min(kept_tokens, prompt_tokens - 1) // block_tokens * block_tokens
