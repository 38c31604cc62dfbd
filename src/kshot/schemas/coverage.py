"""Which parts of a query the demonstrations cover, on the wire."""

from pydantic import Field

from kshot.schemas.base import Reply


class TextSpan(Reply):
    """A part of the query's text."""

    start: int = Field(description="first character")
    end: int = Field(description="one past the last character")
    text: str


class QueryToken(TextSpan):
    """One token of the query, as the encoder reads it: a word or a piece of one."""

    weight: float = Field(description="its share in the relevance by tokens (bsr); all shares sum to 1")
    best_id: str = Field(description="the demonstration that matches it best; of equals the first")
    similarity: float = Field(description="cosine of the token to the best match in that demonstration")
    covered: bool


class DemonstrationCoverage(Reply):
    """How well one demonstration matches each token."""

    id: str
    scores: list[float] = Field(description="per token, the cosine of the best match in this demonstration")
    spans: list[TextSpan] = Field(description="covered parts for which no demonstration before is as good")


class Coverage(Reply):
    """Each token of the query against each demonstration: the rows and columns of a heat map."""

    text: str = Field(description="the query's text as it was embedded; positions count its characters")
    covered_from: float = Field(description="cosine from which a token counts as covered")
    covered_share: float = Field(description="weight of the covered tokens together, in [0, 1]")
    tokens: list[QueryToken]
    demonstrations: list[DemonstrationCoverage] = Field(description="in prompt order")
