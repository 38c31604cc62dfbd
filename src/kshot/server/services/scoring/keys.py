"""Under which key a score is remembered: a hash of everything that the number depends on."""

import hashlib
import struct
from collections.abc import Sequence
from typing import Any

from kshot.clients.scorers.base import (
    Boundary,
    Capabilities,
    Chat,
    Context,
    Pair,
    Parts,
    ScoringOptions,
    Text,
)

KEY_BYTES = 16


class PairKeys:
    """Makes the keys of one batch; what its pairs share is hashed once.

    Together the parts of a key determine the token ids that are fed. The mode is no part of it: all of them
    give the same number. Nor is the limit of the model's context, but where contexts may lose something. Nor
    is what a context is made of, where it cannot lose a demonstration. Where context and completion may be
    tokenised as one text, or a context may lose demonstrations, its other completions are: all of them
    together decide where they begin and what is left.
    """

    def __init__(
        self, capabilities: Capabilities, options: ScoringOptions, pairs: Sequence[Pair] = ()
    ) -> None:
        self._drops = options.on_overflow == "drop_demos"
        boundary = "" if options.boundary is None else str(options.boundary)
        cut = (
            "" if options.on_overflow == "error" else f"{options.on_overflow} {capabilities.max_model_tokens}"
        )
        self._base = _started("pair", capabilities.fingerprint, boundary, options.terminator, cut)
        self._context_to_base: dict[Context, Any] = {}
        self._context_to_completions: dict[Context, set[Text]] = {}
        if self._drops or options.boundary in {None, Boundary.JOINT, Boundary.SEPARATE}:
            for pair in pairs:
                if not isinstance(pair.context, tuple):
                    self._context_to_completions.setdefault(pair.context, set()).add(pair.completion)

    def belong_together(self, context: Context) -> bool:
        """Tell whether the completions of a context must be scored in one batch."""
        return len(self._context_to_completions.get(context, ())) > 1

    def key(self, pair: Pair) -> bytes:
        """Return the key of a pair."""
        base = self._context_to_base.get(pair.context)
        if base is None:
            base = self._base.copy()
            for part in self._parts(pair.context):
                base.update(_framed(part))
            for framed in sorted(map(_framed, self._context_to_completions.get(pair.context, ()))):
                base.update(framed)
            base.update(_framed("completion"))
            self._context_to_base[pair.context] = base
        made = base.copy()
        made.update(_framed(pair.completion))
        return bytes(made.digest())

    def _parts(self, context: Context) -> list[Text]:
        """Take a context apart, its kind and size first, so that no two of them read alike."""
        if isinstance(context, Chat):
            written = [part for one in context.messages for part in (one.role, one.content)]
            return [f"chat of {len(written)}", context.template_switches, *written]
        if not isinstance(context, Parts):
            return ["text", context]
        if not self._drops:
            return ["text", context.text]
        count = len(context.demonstrations)
        return [f"parts with {count}", context.instruction, *context.demonstrations, context.query]


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
