"""Make what is fed fit the model's window."""

from dataclasses import replace

from kshot.clients.scorers.base import NotScored, Overflow
from kshot.clients.scorers.boundary import Fed
from kshot.errors import PayloadTooLarge


def fit(fed: Fed, *, max_model_tokens: int, on_overflow: Overflow, keep: int) -> Fed | NotScored:
    """Return ``fed``, cut or refused where it is longer than the model takes.

    Context and completion together may have one token less than the model's window, as the server generates
    one. ``left`` cuts the context after its first ``keep`` tokens (BOS); at least one token of it stays. A
    completion is never cut.
    """
    excess = fed.tokens - (max_model_tokens - 1)
    if excess <= 0:
        return fed
    # A context that is nothing but its start cannot be cut.
    keep = min(keep, len(fed.context) - 1)
    removable = len(fed.context) - max(keep, 1)
    if on_overflow != "left" or excess > removable:
        return NotScored(
            code=PayloadTooLarge.code,
            message=f"context and completion have {fed.tokens} tokens, allowed {max_model_tokens - 1}",
        )
    return replace(
        fed, context=fed.context[:keep] + fed.context[keep + excess :], dropped=fed.dropped + excess
    )
