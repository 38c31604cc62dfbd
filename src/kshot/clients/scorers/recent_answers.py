"""What a tokenizer answered last, in memory, up to a number of bytes."""

from collections import OrderedDict

from kshot.clients.scorers.tokenization import Decode, Encode, TokenizerAnswer, TokenizerCall

ENTRY_BYTES = 300
"""What an answer takes in CPython beside its text and its tokens."""
TOKEN_BYTES = 36
"""A place in a tuple, and a number too large to be shared."""


class RecentAnswers:
    """Forgets what was not used for longest; of one event loop.

    Parameters
    ----------
    max_bytes : int
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._call_to_answer: OrderedDict[TokenizerCall, TokenizerAnswer] = OrderedDict()
        self.bytes = 0

    def get(self, call: TokenizerCall) -> TokenizerAnswer | None:
        """Return an answer, now the one used last."""
        answer = self._call_to_answer.get(call)
        if answer is not None:
            self._call_to_answer.move_to_end(call)
        return answer

    def put(self, call: TokenizerCall, answer: TokenizerAnswer) -> None:
        """Keep an answer; one that was kept before stays."""
        if call in self._call_to_answer:
            return
        self._call_to_answer[call] = answer
        self.bytes += size_of(call, answer)
        while self.bytes > self._max_bytes:
            self.bytes -= size_of(*self._call_to_answer.popitem(last=False))


def size_of(call: TokenizerCall, answer: TokenizerAnswer) -> int:
    """Return about how many bytes a call and its answer take; a character counts as one."""
    if isinstance(call, Encode):
        asked = len(call.text)
    elif isinstance(call, Decode):
        asked = TOKEN_BYTES * len(call.ids)
    else:
        asked = len(call.switches) + sum(len(one.content) for one in call.messages)
    return ENTRY_BYTES + asked + len(answer) * (1 if isinstance(answer, str) else TOKEN_BYTES)
