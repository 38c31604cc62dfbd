"""Where contexts end and completions begin, in tokens.

The tokens of a text and of its continuation are often not those of the two together, and a score depends on
which are fed. `split` decides it for one context and all its completions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kshot.clients.scorers.base import (
    Boundary,
    Chat,
    Context,
    NotScored,
    Parts,
    Terminator,
    Text,
    Tokens,
)
from kshot.clients.scorers.chats import written
from kshot.clients.scorers.special_tokens import SpecialTokens, marker_at_end, marker_ids
from kshot.clients.scorers.tokenization import Flow, decodings, encodings
from kshot.errors import InvalidInput, InvalidParameter


@dataclass(frozen=True, slots=True, kw_only=True)
class Fed:
    """Exactly what a model is given for one pair.

    Attributes
    ----------
    context, completion : tuple of int
        At least one token each; the score is that of the completion's tokens after the context's.
    boundary : Boundary
    bytes, characters : int
        Of the completion's text, the terminator included.
    lossy : bool
        Whether the tokens do not decode to the text, or are not those of any text.
    dropped : int
        Tokens that the context lost.
    dropped_demonstrations : int
        Demonstrations that it lost with them.
    """

    context: Tokens
    completion: Tokens
    boundary: Boundary
    bytes: int
    characters: int
    lossy: bool = False
    dropped: int = 0
    dropped_demonstrations: int = 0

    @property
    def tokens(self) -> int:
        """Of context and completion together."""
        return len(self.context) + len(self.completion)


def split(
    context: Context,
    completions: Sequence[Text],
    *,
    special: SpecialTokens,
    boundary: Boundary | None = None,
    terminator: Terminator = "none",
) -> Flow[list[Fed | NotScored]]:
    """Divide one context and its completions into tokens; one result per completion, in their order.

    Boundaries are those of `Boundary`; None is `SEPARATE` where the context is a chat or ends with a newline
    or a special token, else `JOINT`. White space at the end of a context belongs to the completions in
    `JOINT` and `HARNESS`, as most vocabularies keep it with the following word. `SEPARATE` becomes `JOINT`
    for the whole context where a completion's own tokens, put after the context's, would not read as the
    text.
    """
    ending = _ending(terminator, special)
    if isinstance(ending, NotScored):
        return [ending] * len(completions)
    in_context = _problem_of_context(context)
    if in_context is not None:
        return [in_context] * len(completions)
    problems = [_problem(completion) for completion in completions]
    good = [i for i, problem in enumerate(problems) if problem is None]
    distinct = list(dict.fromkeys(completions[i] for i in good))
    if isinstance(context, Chat):
        results = yield from _after_chat(context, distinct, special, boundary, ending)
    else:
        text = context.text if isinstance(context, Parts) else context
        results = yield from _split(text, distinct, special, boundary, ending)
    completion_to_result = dict(zip(distinct, results, strict=True))
    return [problems[i] or completion_to_result[completions[i]] for i in range(len(completions))]


def _split(
    context: Text, completions: Sequence[Text], special: SpecialTokens, boundary: Boundary | None, ending: str
) -> Flow[list[Fed | NotScored]]:
    texts = [completion for completion in completions if isinstance(completion, str)]
    if not completions:
        return []
    if isinstance(context, str) and len(texts) == len(completions) and boundary is not Boundary.IDS:
        texts = [text + ending for text in texts]
        chosen = boundary or (yield from _default_boundary(context))
        if chosen is Boundary.SEPARATE:
            separate = yield from _separate(context, texts, special)
            if separate is not None:
                return separate
        return (yield from _joint(context, texts, special, harness=chosen is Boundary.HARNESS))
    if boundary is Boundary.IDS and (isinstance(context, str) or texts):
        refusal = NotScored(code=InvalidParameter.code, message="boundary 'ids' takes token ids, not text")
        return [refusal] * len(completions)
    return (yield from _given_ids(context, completions, special, ending))


def _after_chat(
    chat: Chat, completions: Sequence[Text], special: SpecialTokens, boundary: Boundary | None, ending: str
) -> Flow[list[Fed | NotScored]]:
    if not completions:
        return []
    start = yield from written(chat)
    if isinstance(start, NotScored):
        return [start] * len(completions)
    ids, text = start
    texts = [one + ending for one in completions if isinstance(one, str)]
    if len(texts) < len(completions) or boundary is Boundary.IDS:
        return (yield from _split(ids, completions, special, boundary, ending))
    if boundary in {None, Boundary.SEPARATE}:
        own = yield from encodings(texts)
        separate = yield from _each_by_itself(ids, text, texts, own, ids)
        if separate is not None:
            return separate
    # What the template wrote, read as a text; its markers are markers again.
    return (yield from _joint(text, texts, special, harness=boundary is Boundary.HARNESS))


def _default_boundary(context: str) -> Flow[Boundary]:
    if context.endswith("\n"):
        return Boundary.SEPARATE
    marker = marker_at_end(context)
    if marker is None:
        return Boundary.JOINT
    (whole,) = yield from encodings([context])
    marker_to_id = yield from marker_ids([marker])
    return Boundary.SEPARATE if whole[-1:] == (marker_to_id.get(marker),) else Boundary.JOINT


def _joint(
    context: str, completions: Sequence[str], special: SpecialTokens, *, harness: bool
) -> Flow[list[Fed | NotScored]]:
    body = context.rstrip()
    texts = [context + completion for completion in completions]
    encoded = yield from encodings([body, *texts])
    begun = [special.begin(ids) for ids in encoded]
    # An empty context starts where the text does, whether the tokenizer says so or not.
    if not begun[0]:
        if special.start is None:
            return [_NO_START] * len(completions)
        start = (special.start,)
        begun = [ids if ids[:1] == start else start + ids for ids in [start, *encoded[1:]]]
    whole, context_ids = begun[1:], begun[0]
    shared = len(context_ids)
    if not harness:
        shared = min(min(_shared(context_ids, ids), len(ids) - 1) for ids in whole)
    decoded = yield from decodings(encoded[1:])
    results: list[Fed | NotScored] = []
    for ids, completion, text, back in zip(whole, completions, texts, decoded, strict=True):
        before = context_ids if harness else ids[:shared]
        after = ids[shared:]
        fed = Fed(
            context=before,
            completion=after,
            boundary=Boundary.HARNESS if harness else Boundary.JOINT,
            lossy=back != text or before + after != ids,
            bytes=_size(completion),
            characters=len(completion),
        )
        if not before:
            # The very first tokens straddle the border.
            results.append(_NO_START if special.start is None else replace(fed, context=(special.start,)))
        else:
            results.append(fed if after else _NOTHING_LEFT)
    return results


def _separate(
    context: str, completions: Sequence[str], special: SpecialTokens
) -> Flow[list[Fed | NotScored] | None]:
    bare, *own = yield from encodings([context, *completions])
    before = special.begin(bare)
    if not before:
        if special.start is None:
            return [_NO_START] * len(completions)
        before = (special.start,)
    return (yield from _each_by_itself(before, context, completions, own, bare))


def _each_by_itself(
    before: Tokens, context: str, completions: Sequence[str], own: Sequence[Tokens], bare: Tokens
) -> Flow[list[Fed | NotScored] | None]:
    """Return None where a completion's own tokens would not read as its text.

    ``before`` are the tokens of the context, ``bare`` the same without a start that is not in its text.
    """
    decoded = yield from decodings([bare + ids for ids in own])
    if any(back != context + text for back, text in zip(decoded, completions, strict=True)):
        return None
    return [
        Fed(
            context=before,
            completion=ids,
            boundary=Boundary.SEPARATE,
            bytes=_size(text),
            characters=len(text),
        )
        for ids, text in zip(own, completions, strict=True)
    ]


def _given_ids(
    context: Text, completions: Sequence[Text], special: SpecialTokens, ending: str
) -> Flow[list[Fed | NotScored]]:
    texts = [one + ending if isinstance(one, str) else ending for one in completions]
    encoded = yield from encodings([context if isinstance(context, str) else "", *texts])
    before = special.begin(encoded[0]) if isinstance(context, str) else context
    if not before:
        if special.start is None:
            return [_NO_START] * len(completions)
        before = (special.start,)
    after = [
        ids if isinstance(one, str) else (*one, *ids)
        for one, ids in zip(completions, encoded[1:], strict=True)
    ]
    decoded = yield from decodings(after)
    return [
        Fed(
            context=before,
            completion=ids,
            boundary=Boundary.IDS,
            lossy=isinstance(one, str) and back != text,
            bytes=_size(text if isinstance(one, str) else back),
            characters=len(text if isinstance(one, str) else back),
        )
        for one, ids, text, back in zip(completions, after, texts, decoded, strict=True)
    ]


_NO_START = NotScored(
    code=InvalidInput.code,
    message="the context is empty, and the model has no token that starts a text",
)


_NOTHING_LEFT = NotScored(
    code=InvalidInput.code,
    message="the completion has no token of its own under boundary 'harness'; 'joint' has one",
)


def _ending(terminator: Terminator, special: SpecialTokens) -> str | NotScored:
    if terminator == "eot":
        if special.end is None:
            return NotScored(
                code=InvalidParameter.code,
                message="terminator is 'eot', and the model's end marker is unknown",
            )
        return special.end
    return "\n" if terminator == "newline" else ""


def _problem_of_context(context: Context) -> NotScored | None:
    texts: list[Text] = []
    if isinstance(context, Chat):
        texts += [part for message in context.messages for part in (message.role, message.content)]
    else:
        texts.append(context.text if isinstance(context, Parts) else context)
    return next((problem for text in texts if (problem := _unreadable("context", text))), None)


def _problem(completion: Text) -> NotScored | None:
    if not completion:
        return NotScored(code=InvalidInput.code, message="the completion is empty")
    return _unreadable("completion", completion)


def _unreadable(name: str, text: Text) -> NotScored | None:
    if isinstance(text, str):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return NotScored(
                code=InvalidInput.code,
                message=f"the {name} holds a lone surrogate at character {error.start}",
            )
    elif any(not isinstance(token, int) or isinstance(token, bool) or token < 0 for token in text):
        return NotScored(code=InvalidInput.code, message=f"the {name} holds a token id that is none")
    return None


def _shared(left: Tokens, right: Tokens) -> int:
    if right[: len(left)] == left:
        return len(left)
    for i, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return i
    return min(len(left), len(right))


def _size(text: str) -> int:
    return len(text.encode(errors="replace"))
