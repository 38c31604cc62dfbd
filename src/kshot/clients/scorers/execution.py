"""Score what is fed: choose a mode per context, ask, and put the numbers together."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from kshot.clients.scorers import wire
from kshot.clients.scorers.base import NotScored, ScoringMode, Tokens
from kshot.clients.scorers.boundary import Fed
from kshot.clients.scorers.mode_choice import choose_mode
from kshot.clients.scorers.passes import Passes, Question, likeliest
from kshot.clients.scorers.token_scores import TokenScores
from kshot.clients.scorers.tries import inner_nodes, path_nats
from kshot.errors import InvalidParameter, PayloadTooLarge


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How batches are scored.

    Attributes
    ----------
    passes : Passes
    modes : collection of ScoringMode
        To choose from.
    forced : bool
        Whether the next-token modes ask one request per token.
    longest_read : int
        Tokens of the longest prompt for echo mode.
    block_tokens : int or None
        Of the prefix cache; None if there is none.
    """

    passes: Passes
    modes: Collection[ScoringMode]
    forced: bool
    longest_read: int
    block_tokens: int | None

    async def run(self, batch: Sequence[Fed]) -> list[TokenScores | NotScored]:
        """Return the scores of what is fed, in its order; what is the same is asked for once."""
        context_to_completions: dict[Tokens, dict[Tokens, None]] = {}
        for fed in batch:
            context_to_completions.setdefault(fed.context, {})[fed.completion] = None
        context_to_mode = {
            context: self._mode(context, list(completions))
            for context, completions in context_to_completions.items()
        }
        reads = [
            (context, completion)
            for context, completions in context_to_completions.items()
            for completion in completions
            if context_to_mode[context] is ScoringMode.ECHO
        ]
        followed_modes = {
            context: mode
            for context, mode in context_to_mode.items()
            if mode is not None and mode is not ScoringMode.ECHO
        }
        stepped = {context: list(context_to_completions[context]) for context in followed_modes}
        read, followed = await asyncio.gather(self._read(reads), self._follow(stepped, followed_modes))
        known = read | followed
        for context, completions in context_to_completions.items():
            if context_to_mode[context] is None:
                for completion in completions:
                    known[context, completion] = self._impossible(context, completion)
        return [known[fed.context, fed.completion] for fed in batch]

    def _mode(self, context: Tokens, completions: Sequence[Tokens]) -> ScoringMode | None:
        return choose_mode(
            len(context),
            completions,
            allowed=self.modes,
            forced=self.forced,
            max_echo_tokens=self.longest_read,
            block_tokens=self.block_tokens,
        )

    async def _read(
        self, pairs: Sequence[tuple[Tokens, Tokens]]
    ) -> dict[tuple[Tokens, Tokens], TokenScores | NotScored]:
        if not pairs:
            return {}
        answers = await self.passes.read([context + completion for context, completion in pairs])
        known: dict[tuple[Tokens, Tokens], TokenScores | NotScored] = {}
        for (context, completion), answer in zip(pairs, answers, strict=True):
            if isinstance(answer, NotScored):
                known[context, completion] = answer
            else:
                part = answer.completion(len(context))
                known[context, completion] = TokenScores(part.nats, all(part.likeliest), ScoringMode.ECHO)
        return known

    async def _follow(
        self,
        context_to_completions: Mapping[Tokens, list[Tokens]],
        context_to_mode: Mapping[Tokens, ScoringMode],
    ) -> dict[tuple[Tokens, Tokens], TokenScores | NotScored]:
        if not context_to_completions:
            return {}
        places = [
            (context, node)
            for context, completions in context_to_completions.items()
            for node in inner_nodes(completions)
        ]
        questions = [Question(context + node.prefix, node.children) for context, node in places]
        answers = await self.passes.next_tokens(questions)
        context_to_answers: dict[Tokens, dict[Tokens, wire.Next | NotScored]] = {}
        for (context, node), answer in zip(places, answers, strict=True):
            context_to_answers.setdefault(context, {})[node.prefix] = answer
        known: dict[tuple[Tokens, Tokens], TokenScores | NotScored] = {}
        for context, completions in context_to_completions.items():
            mode = context_to_mode[context]
            for completion in completions:
                known[context, completion] = self._path(completion, context_to_answers[context], mode)
        return known

    def _path(
        self, completion: Tokens, prefix_to_answer: dict[Tokens, wire.Next | NotScored], mode: ScoringMode
    ) -> TokenScores | NotScored:
        steps: dict[Tokens, wire.Next] = {}
        for end in range(len(completion)):
            answer = prefix_to_answer[completion[:end]]
            if isinstance(answer, NotScored):
                return answer
            steps[completion[:end]] = answer
        nats = path_nats(completion, {prefix: step.id_to_nats for prefix, step in steps.items()})
        flags = [
            likeliest(steps[completion[:end]], token, forced=self.forced)
            for end, token in enumerate(completion)
        ]
        return TokenScores(nats, None if None in flags else all(flags), mode)

    def _impossible(self, context: Tokens, completion: Tokens) -> NotScored:
        if ScoringMode.ECHO in self.modes and len(context) + len(completion) > self.longest_read:
            return NotScored(
                code=PayloadTooLarge.code,
                message=(
                    f"{len(context) + len(completion)} tokens, allowed {self.longest_read} in echo mode, "
                    "and no other mode can score it"
                ),
            )
        return NotScored(
            code=InvalidParameter.code,
            message=f"mode 'label' scores single tokens; the completions of this context have "
            f"up to {len(completion)} or more",
        )
