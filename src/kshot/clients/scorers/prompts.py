"""The tokens of prompts that are given without completions."""

from collections.abc import Sequence

from kshot.clients.scorers.base import Text, Tokens
from kshot.clients.scorers.special_tokens import SpecialTokens
from kshot.clients.scorers.tokenization import Flow, encodings
from kshot.errors import InvalidInput, PayloadTooLarge


def begun(prompts: Sequence[Text], *, special: SpecialTokens, longest: int) -> Flow[list[Tokens]]:
    """Return the tokens of prompts, texts with the model's start in front.

    Raises
    ------
    InvalidInput
        A prompt is empty, holds a lone surrogate, or has more than ``longest`` tokens.
    """
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(f"a prompt holds a lone surrogate at character {error.start}") from None
    encoded = yield from encodings(texts)
    text_to_ids = dict(zip(texts, encoded, strict=True))
    start = () if special.start is None else (special.start,)
    all_ids = [
        (special.begin(text_to_ids[one]) if isinstance(one, str) else tuple(one)) or start for one in prompts
    ]
    for ids in all_ids:
        if not ids:
            raise InvalidInput("a prompt is empty, and the model has no token that starts a text")
        if len(ids) > longest:
            raise PayloadTooLarge(f"a prompt has {len(ids)} tokens, allowed {max(longest, 0)}")
    return all_ids
