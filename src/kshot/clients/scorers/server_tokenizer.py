"""The tokenizer of a completion server, asked over HTTP, or a local one in its place."""

import asyncio
import json
from collections.abc import Sequence
from typing import cast

from kshot.clients.scorers.backend import Backend
from kshot.clients.scorers.base import Tokens
from kshot.clients.scorers.endpoint import Broke, Rejected
from kshot.clients.scorers.recent_answers import RecentAnswers
from kshot.clients.scorers.special_tokens import END_MARKERS, START_MARKERS
from kshot.clients.scorers.tokenization import (
    ChatTokenizer,
    Decode,
    Encode,
    EncodeChat,
    LocalTokenizer,
    NoTemplate,
    TokenizerAnswer,
    TokenizerCall,
    answer_locally,
)
from kshot.errors import ScorerUnavailable

_REMEMBERED_BYTES = 64 * 2**20
_COMPARED = (
    "The capital of France is Paris.",
    "  two  spaces, a\ttab and\n\na line end \n",
    "don't re-enter 1,234.50 & 2e-7 <b>tags</b> {{x}}",
    "Größe naïve Ελλάδα Москва שלום नमस्ते 東京 한국어 👩‍👩‍👧 \u00a0\ufeff",
    "def f(x):\n    return x**2  # ok",
    # A file of the base model may lack what a chat model was taught.
    "a".join((*END_MARKERS, *START_MARKERS, "<think>", "</think>", "[INST]", "[/INST]")),
)
"""What two tokenizers that are not the same hardly agree on."""


class ServerTokenizer:
    """Answers calls of tokenizer flows; remembers recent texts.

    Parameters
    ----------
    backend : Backend

    Notes
    -----
    A tokenizer in this process takes its place once `use` has found them to be the same. It works in a
    thread, for one call of `answer` at a time, as long texts would hold up the event loop. Chats are asked of
    the server where it has no template.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._local: LocalTokenizer | None = None
        self._recent = RecentAnswers(_REMEMBERED_BYTES)
        self._working = asyncio.Lock()

    async def is_there(self) -> bool:
        """Say whether there is anything to ask."""
        if self._local is not None:
            return True
        try:
            await self._ask(Encode("a"))
            await self._ask(Decode((1,)))
        except ScorerUnavailable as error:
            if isinstance(error.__cause__, Rejected):
                return False
            raise
        return True

    def forget(self) -> None:
        """Forget what was remembered: the model may be another one."""
        # What is under way goes on to fill the old one, which nobody reads any more.
        self._recent = RecentAnswers(_REMEMBERED_BYTES)
        self._local = None

    async def use(self, local: LocalTokenizer, *, unseen: bool = False) -> bool:
        """Ask a tokenizer of this process from now on, if it is the server's, and say whether it is.

        It is compared token for token on texts of many scripts, with and without markers. Where it differs
        anywhere the server is asked as before, and likewise where the server does not tell, unless ``unseen``
        is set.
        """
        encodes = [Encode(text, special) for text in _COMPARED for special in (False, True)]
        try:
            by_server = await asyncio.gather(*map(self._ask, encodes))
            if await self._answers_of(local, encodes) != by_server:
                return False
            decodes = [Decode(cast("Tokens", ids)) for ids in by_server]
            texts = await asyncio.gather(*map(self._ask, decodes))
        except ScorerUnavailable as error:
            if not isinstance(error.__cause__, Rejected):
                raise
            if unseen:
                self._local = local
            return unseen
        if await self._answers_of(local, decodes) != texts:
            return False
        self._local = local
        return True

    async def answer(self, calls: list[TokenizerCall]) -> list[TokenizerAnswer]:
        """Answer calls, in their order.

        Raises
        ------
        NotAnswered, ScorerUnavailable
            The server does not answer, or not in the known form.
        NoTemplate
            A chat cannot be written.
        """
        recent, local = self._recent, self._local
        known = {call: answer for call in calls if (answer := recent.get(call)) is not None}
        missing = [call for call in dict.fromkeys(calls) if call not in known]
        here = [call for call in missing if local is not None and _can_answer(local, call)]
        if local is not None and here:
            known.update(zip(here, await self._answers_of(local, here), strict=True))
        there = [call for call in missing if call not in known]
        known.update(zip(there, await asyncio.gather(*map(self._ask, there)), strict=True))
        for call, answer in known.items():
            recent.put(call, answer)
        return [known[call] for call in calls]

    async def _answers_of(
        self, local: LocalTokenizer, calls: Sequence[TokenizerCall]
    ) -> list[TokenizerAnswer]:
        async with self._working:
            return await asyncio.to_thread(lambda: [answer_locally(local, call) for call in calls])

    async def _ask(self, call: TokenizerCall) -> TokenizerAnswer:
        try:
            if isinstance(call, EncodeChat):
                chat = {
                    "messages": [{"role": one.role, "content": one.content} for one in call.messages],
                    "add_generation_prompt": True,
                    "add_special_tokens": False,
                    "chat_template_kwargs": json.loads(call.switches),
                }
                try:
                    return _ids((await self._backend.post("/tokenize", chat))["tokens"])
                except Rejected as error:
                    raise NoTemplate(
                        "the model has no template for chats, or it takes no such messages or switches: "
                        f"the scorer answers with {error}"
                    ) from error
            if isinstance(call, Encode):
                body = {"prompt": call.text, "add_special_tokens": call.special}
                return _ids((await self._backend.post("/tokenize", body))["tokens"])
            text = (await self._backend.post("/detokenize", {"tokens": list(call.ids)}))["prompt"]
            if isinstance(text, str):
                return text
        except (Rejected, Broke) as error:
            raise ScorerUnavailable(f"the scorer's tokenizer refuses: {error}") from error
        except (TypeError, KeyError):
            pass
        raise ScorerUnavailable("the scorer's tokenizer answers in no known form")


def _can_answer(local: LocalTokenizer, call: TokenizerCall) -> bool:
    return not isinstance(call, EncodeChat) or isinstance(local, ChatTokenizer)


def _ids(tokens: list[int]) -> Tokens:
    if not all(isinstance(token, int) for token in tokens):
        raise TypeError
    return tuple(tokens)
