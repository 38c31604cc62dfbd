"""From what a model says of each token to the score of a completion."""

from dataclasses import dataclass

from kshot.clients.scorers.base import Scored, ScoringMode
from kshot.clients.scorers.boundary import Fed


@dataclass(frozen=True, slots=True)
class TokenScores:
    """What a model says of the tokens of one completion."""

    nats: tuple[float, ...]
    greedy: bool | None
    mode: ScoringMode

    def scored(self, fed: Fed, *, per_token: bool) -> Scored:
        """Combine with what was fed."""
        return Scored(
            sum_nats=sum(self.nats),
            tokens=len(fed.completion),
            bytes=fed.bytes,
            characters=fed.characters,
            boundary=fed.boundary,
            mode=self.mode,
            per_token=self.nats if per_token else None,
            greedy=self.greedy,
            dropped=fed.dropped,
            dropped_demonstrations=fed.dropped_demonstrations,
            lossy=fed.lossy,
        )
