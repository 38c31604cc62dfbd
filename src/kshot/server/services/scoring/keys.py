"""Under which key a score is remembered: a hash of everything that the number depends on."""

import hashlib
import struct
from collections.abc import Sequence
from typing import Any

from kshot.clients.scorers.base import Boundary, Capabilities, Pair, ScoringOptions, Text

KEY_BYTES = 16


class PairKeys:
    """Makes the keys of one batch; what its pairs share is hashed once.

    The mode is no part of a key: all of them give the same number. Nor is the limit of the model's context,
    but where contexts may be cut. Where context and completion may be tokenised as one text, the other
    completions of the context are: all of them begin at the same token, so each decides where that is.
    """

    def __init__(
        self, capabilities: Capabilities, options: ScoringOptions, pairs: Sequence[Pair] = ()
    ) -> None:
        boundary = "" if options.boundary is None else str(options.boundary)
        cut = f"left {capabilities.max_model_tokens}" if options.on_overflow == "left" else ""
        self._base = _started("pair", capabilities.fingerprint, boundary, options.terminator, cut)
        self._context_to_base: dict[Text, Any] = {}
        self._context_to_completions: dict[Text, set[Text]] = {}
        if options.boundary in {None, Boundary.JOINT}:
            for pair in pairs:
                if isinstance(pair.context, str):
                    self._context_to_completions.setdefault(pair.context, set()).add(pair.completion)

    def belong_together(self, context: Text) -> bool:
        """Tell whether the completions of a context must be scored in one batch."""
        return len(self._context_to_completions.get(context, ())) > 1

    def key(self, pair: Pair) -> bytes:
        """Return the key of a pair."""
        base = self._context_to_base.get(pair.context)
        if base is None:
            base = self._base.copy()
            base.update(_framed(pair.context))
            for framed in sorted(map(_framed, self._context_to_completions.get(pair.context, ()))):
                base.update(framed)
            base.update(_framed("completion"))
            self._context_to_base[pair.context] = base
        made = base.copy()
        made.update(_framed(pair.completion))
        return bytes(made.digest())


def label_keys(fingerprint: str, prompt: Text, label_token_ids: tuple[int, ...]) -> list[bytes]:
    """Return the keys of ln p(label | prompt), one per label."""
    base = _started("label", fingerprint)
    base.update(_framed(prompt))
    keys = []
    for label in label_token_ids:
        made = base.copy()
        made.update(_framed((label,)))
        keys.append(bytes(made.digest()))
    return keys


def greedy_key(fingerprint: str, prompt: Text, max_tokens: int, stop: str) -> bytes:
    """Return the key of how sure a model is of its greedy answer."""
    made = _started("greedy", fingerprint, str(max_tokens), stop)
    made.update(_framed(prompt))
    return bytes(made.digest())


def _started(*parts: str) -> Any:
    made = hashlib.blake2b(digest_size=KEY_BYTES)
    for part in parts:
        made.update(_framed(part))
    return made


def _framed(text: Text) -> bytes:
    """Write a text so that no two sequences of texts read alike: its kind, its length, itself."""
    if isinstance(text, str):
        # Lone surrogates are refused later, by whoever tokenises.
        data, kind = text.encode("utf-8", "surrogatepass"), b"t"
    else:
        data, kind = struct.pack(f"<{len(text)}q", *text), b"i"
    return kind + struct.pack("<q", len(data)) + data
