"""What a request says of itself beside its query, as numbers within -1 and 1."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeAlias

from kshot.errors import InvalidParameter

FeatureValue: TypeAlias = str | bool | int | float | None
"""What a request may say of a feature; None: nothing."""


@dataclass(frozen=True, slots=True)
class NumberFeature:
    """A number or a flag, scaled from ``low`` to ``high`` to -1 to 1 and clipped; 0 where it is not told.

    Raises
    ------
    InvalidParameter
        ``low`` is not below ``high``, or one of them not finite.
    """

    name: str
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high - self.low) and self.low < self.high):
            raise InvalidParameter(f"{self.name} is {self.low:g} to {self.high:g}, allowed low < high")

    @property
    def width(self) -> int:
        """Features that it becomes."""
        return 1

    @property
    def declaration(self) -> str:
        """What it is, for fingerprints."""
        return f"number {self.name!r} {self.low!r} {self.high!r}"

    def numbers(self, value: FeatureValue) -> list[float]:
        """Return its features.

        Raises
        ------
        InvalidParameter
            The value is no finite number.
        """
        if value is None:
            return [0.0]
        if isinstance(value, str) or not math.isfinite(value):
            raise InvalidParameter(f"{self.name} is {value!r}, allowed a finite number")
        clipped = min(max(float(value), self.low), self.high)
        return [2.0 * (clipped - self.low) / (self.high - self.low) - 1.0]


@dataclass(frozen=True, slots=True)
class CategoryFeature:
    """One of a few declared words: 1 in its own place, 0 elsewhere; all 0 for words that are not declared.

    Raises
    ------
    InvalidParameter
        No word is declared, or one twice.
    """

    name: str
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.values or len(set(self.values)) != len(self.values):
            raise InvalidParameter(f"{self.name} declares {self.values}, allowed at least one, distinct")

    @property
    def width(self) -> int:
        """Features that it becomes."""
        return len(self.values)

    @property
    def declaration(self) -> str:
        """What it is, for fingerprints."""
        return f"category {self.name!r} {list(self.values)!r}"

    def numbers(self, value: FeatureValue) -> list[float]:
        """Return its features.

        Raises
        ------
        InvalidParameter
            The value is no text.
        """
        word = _word(self.name, value)
        return [float(word == one) for one in self.values]


@dataclass(frozen=True, slots=True)
class HashedFeature:
    """A word of any kind: 1 in the place that its keyed hash gives, 0 elsewhere; all 0 where it is not told.

    Words share places, the more of them the fewer ``buckets`` there are.

    Raises
    ------
    InvalidParameter
        ``buckets`` is outside 2 to 64.
    """

    name: str
    buckets: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.buckets <= 64:
            raise InvalidParameter(f"{self.name} has {self.buckets} buckets, allowed 2 to 64")

    @property
    def width(self) -> int:
        """Features that it becomes."""
        return self.buckets

    @property
    def declaration(self) -> str:
        """What it is, for fingerprints."""
        return f"hashed {self.name!r} {self.buckets} {self.seed}"

    def numbers(self, value: FeatureValue) -> list[float]:
        """Return its features.

        Raises
        ------
        InvalidParameter
            The value is no text.
        """
        word = _word(self.name, value)
        if word is None:
            return [0.0] * self.buckets
        key = f"{self.seed}:{self.name}".encode()
        # Of the text as it is: a lone surrogate is a word too.
        digest = blake2b(word.encode("utf-8", "surrogatepass"), key=key[:64], digest_size=8).digest()
        place = int.from_bytes(digest, "little") % self.buckets
        return [float(bucket == place) for bucket in range(self.buckets)]


RequestFeature: TypeAlias = NumberFeature | CategoryFeature | HashedFeature


def request_numbers(
    features: Sequence[RequestFeature], name_to_value: Mapping[str, FeatureValue]
) -> list[float]:
    """Return the features of a request, in the order in which they are declared.

    Raises
    ------
    InvalidParameter
        A value is of the wrong kind, or its name not declared.
    """
    unknown = sorted(set(name_to_value) - {feature.name for feature in features})
    if unknown:
        allowed = ", ".join(feature.name for feature in features) or "none"
        raise InvalidParameter(f"feature {unknown[0]!r} is not declared; declared: {allowed}")
    return [number for feature in features for number in feature.numbers(name_to_value.get(feature.name))]


def _word(name: str, value: FeatureValue) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise InvalidParameter(f"{name} is {value!r}, allowed text")
