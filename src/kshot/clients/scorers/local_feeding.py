"""From the pairs and prompts of a call to tokens, by a tokenizer in this process."""

from collections.abc import Sequence
from dataclasses import dataclass

from kshot.clients.scorers.base import (
    Context,
    NotScored,
    Pair,
    ScoringMode,
    ScoringOptions,
    Text,
    Tokens,
)
from kshot.clients.scorers.boundary import Fed
from kshot.clients.scorers.dropping import Window, divide
from kshot.clients.scorers.prompts import begun
from kshot.clients.scorers.special_tokens import SpecialTokens
from kshot.clients.scorers.tokenization import LocalTokenizer, NoTemplate, run_locally
from kshot.errors import InvalidInput, InvalidParameter


@dataclass(frozen=True, slots=True, kw_only=True)
class Feeding:
    """A model's tokenizer and limits; what it gives is what the model is fed.

    Attributes
    ----------
    tokenizer : LocalTokenizer
    special : SpecialTokens
    window : int
        Tokens that the model takes, one to generate included.
    vocabulary_size : int
    """

    tokenizer: LocalTokenizer
    special: SpecialTokens
    window: int
    vocabulary_size: int

    def feed(self, pairs: Sequence[Pair], options: ScoringOptions) -> list[Fed | NotScored]:
        """Divide pairs into tokens that fit the model; one result each, in their order."""
        size = self.vocabulary_size
        results: dict[int, Fed | NotScored] = {}
        context_to_places: dict[Context, list[int]] = {}
        for i, pair in enumerate(pairs):
            if _unknown(pair.context, size) or _unknown(pair.completion, size):
                results[i] = NotScored(
                    code=InvalidInput.code,
                    message=f"a token id is {size} or more, the size of the vocabulary",
                )
            else:
                context_to_places.setdefault(pair.context, []).append(i)
        for context, places in context_to_places.items():
            completions = [pairs[i].completion for i in places]
            flow = divide(context, completions, Window(self.window, self.special), options)
            try:
                found = run_locally(flow, self.tokenizer)
            except NoTemplate as error:
                found = [NotScored(code=InvalidInput.code, message=str(error))] * len(places)
            results |= zip(places, found, strict=True)
        return [_in_mode(results[i], options) for i in range(len(pairs))]

    def begin(self, prompts: Sequence[Text], *, room: int) -> list[Tokens]:
        """Return the tokens of prompts, texts with the model's start in front.

        Raises
        ------
        InvalidInput
            A prompt is empty, holds a lone surrogate or an unknown token, or leaves less than ``room``
            tokens of the window.
        """
        for prompt in prompts:
            if not isinstance(prompt, str):
                self.check_ids(prompt, "a prompt")
        flow = begun(prompts, special=self.special, longest=self.window - room)
        return run_locally(flow, self.tokenizer)

    def check_ids(self, ids: Sequence[int], what: str) -> None:
        """Raise `InvalidInput` where an id is none of the vocabulary."""
        if any(not 0 <= token < self.vocabulary_size for token in ids):
            raise InvalidInput(f"{what} holds a token id outside 0 .. {self.vocabulary_size - 1}")


def _in_mode(one: Fed | NotScored, options: ScoringOptions) -> Fed | NotScored:
    if isinstance(one, Fed) and options.mode is ScoringMode.LABEL and len(one.completion) > 1:
        return NotScored(
            code=InvalidParameter.code,
            message=f"mode 'label' scores single tokens; this completion has {len(one.completion)}",
        )
    return one


def _unknown(text: Context, size: int) -> bool:
    return isinstance(text, tuple) and any(isinstance(token, int) and token >= size for token in text)
