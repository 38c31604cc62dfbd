"""Shipped test doubles, exact where a real component would only be plausible.

`ToyCompletionServer` speaks the wire format of vLLM's OpenAI-compatible server over a language model whose
every number is known in closed form, and misbehaves on demand. Needs ``pip install "kshot[server]"``.
"""

from kshot.testing.bigram import BigramModel
from kshot.testing.completion_server import Ledger, ToyCompletionServer
from kshot.testing.faults import Faults
from kshot.testing.prefix_cache import PrefixCache
from kshot.testing.toy_tokenizer import ToyTokenizer

__all__ = ["BigramModel", "Faults", "Ledger", "PrefixCache", "ToyCompletionServer", "ToyTokenizer"]
