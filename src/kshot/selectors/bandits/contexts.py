"""The features that a contextual policy decides on, from the query's embedding and what the request says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from kshot.arrays import Float64s, as_float64, require_shape
from kshot.errors import InvalidParameter, StateCorrupt
from kshot.selectors.bandits.grid import FEATURE_LIMIT, snapped
from kshot.selectors.bandits.request_features import (
    CategoryFeature,
    FeatureValue,
    HashedFeature,
    NumberFeature,
    RequestFeature,
    request_numbers,
)
from kshot.selectors.bandits.snapshots import Snapshot, from_bytes, to_bytes

MOST_COMPONENTS = 64
"""An embedding becomes at most so many features."""
_NO_FEATURES: Mapping[str, FeatureValue] = MappingProxyType({})
_KIND = "context_map"
_LAYOUT = 1
_ENTRY_BITS = 30
"""Entries of a map are multiples of 2**-30, so that they survive another library's last bit."""


@dataclass(frozen=True, slots=True, eq=False)
class ContextMap:
    """A fixed map from embedding and request to features; build it with a function of this module.

    The features are ``[matrix (e - centre); request features; 1]``, rounded to the grid: what is decided on
    is what is learnt from. Without the 1 at the end, features of length one could not say that an arm is
    better everywhere.

    Attributes
    ----------
    method : str
        ``gaussian``, ``pca`` or ``request``, for people.
    matrix : float64 array, shape (c, w)
        From embeddings of w numbers to c components, c <= 64.
    centre : float64 array, shape (w,)
    features : tuple of RequestFeature
        Of distinct names.
    version : str
        What names the features: states of other versions do not mix. From the numbers themselves, so that two
        processes agree if and only if their maps do.
    """

    method: str
    matrix: Float64s
    centre: Float64s
    features: tuple[RequestFeature, ...] = ()
    version: str = field(init=False)

    def __post_init__(self) -> None:
        require_shape("matrix", self.matrix, (None, None))
        require_shape("centre", self.centre, (self.matrix.shape[1],))
        names = [feature.name for feature in self.features]
        if len(set(names)) != len(names):
            raise InvalidParameter(f"request features are named {', '.join(names)}, allowed distinct names")
        digest = blake2b(digest_size=8)
        digest.update(f"{self.method} {self.matrix.shape}".encode())
        digest.update(np.ascontiguousarray(self.matrix, "<f8").tobytes())
        digest.update(np.ascontiguousarray(self.centre, "<f8").tobytes())
        for feature in self.features:
            digest.update(f"\n{feature.declaration}".encode("utf-8", "surrogatepass"))
        object.__setattr__(self, "version", f"{self.method}-{self.dimension}-{digest.hexdigest()}")

    @property
    def width(self) -> int:
        """Numbers of an embedding; 0 where none is looked at."""
        return int(self.matrix.shape[1])

    @property
    def dimension(self) -> int:
        """Features of a context, the intercept included."""
        return len(self.matrix) + sum(feature.width for feature in self.features) + 1

    def context(
        self, embedding: ArrayLike | None = None, request: Mapping[str, FeatureValue] = _NO_FEATURES
    ) -> Float64s:
        """Return the features of one query, shape (d,), on the grid, the last of them 1.

        Parameters
        ----------
        embedding : array, shape (w,)
            Of length 1, within 1 %; None where ``width`` is 0.
        request : mapping of str to str, number, bool or None
            What is not told is 0.

        Raises
        ------
        InvalidShape
            The embedding is missing, not finite, or of another width.
        InvalidParameter
            Its length is not 1, or a request feature is not declared or of the wrong kind.

        Notes
        -----
        O(c w). Components beyond -8 or 8, which need an embedding as no text has it, are clipped.
        """
        e = as_float64("embedding", np.empty(0) if embedding is None else embedding, (self.width,))
        if self.width and abs(np.linalg.norm(e) - 1.0) > 0.01:
            raise InvalidParameter(f"embedding has length {np.linalg.norm(e):g}, allowed 1")
        components = np.clip(self.matrix @ (e - self.centre), -FEATURE_LIMIT, FEATURE_LIMIT)
        return snapped(np.concatenate([components, request_numbers(self.features, request), [1.0]]))

    def to_bytes(self) -> bytes:
        """Return the map in a canonical form."""
        declared = [_declared(feature) for feature in self.features]
        header = {"method": self.method, "features": declared}
        return to_bytes(Snapshot(_KIND, _LAYOUT, header, [self.matrix, self.centre]))

    @classmethod
    def from_bytes(cls, blob: bytes) -> "ContextMap":
        """Return the map that `to_bytes` gave.

        Raises
        ------
        StateCorrupt
            The bytes are damaged, or of something else.
        """
        snapshot = from_bytes(blob, _KIND, (_LAYOUT,))
        matrix, centre = snapshot.arrays
        features = tuple(_feature(*one) for one in snapshot.header["features"])
        return cls(snapshot.header["method"], matrix, centre, features)


def gaussian_map(
    width: int, components: int = 32, *, seed: int = 0, features: Sequence[RequestFeature] = ()
) -> ContextMap:
    """Return a random projection: independent normal entries of variance 1 / components.

    Lengths and angles are kept on average, whatever the embeddings are like; nothing has to be fitted.

    Raises
    ------
    InvalidParameter
        ``components`` is outside 1 to 64, or ``width`` below it.

    Examples
    --------
    >>> map_ = gaussian_map(384, 8, features=[NumberFeature("turn", 0, 10)])
    >>> query = np.full(384, 384**-0.5)
    >>> map_.context(query, {"turn": 10})[-2:]
    array([1., 1.])
    >>> map_.dimension
    10
    """
    _require_components(components, width)
    entries = np.random.default_rng(seed).standard_normal((components, width)) / np.sqrt(components)
    return ContextMap("gaussian", _rounded(entries), np.zeros(width), tuple(features))


def pca_map(
    vectors: ArrayLike, components: int = 32, *, features: Sequence[RequestFeature] = ()
) -> ContextMap:
    """Return the projection to the directions in which given embeddings differ most.

    Scaled as a whole, so that the squared length of their components is 1 on average.

    Parameters
    ----------
    vectors : array, shape (n, w)
        Unit rows, such as the queries of the past.
    components : int
        1 to 64, below n, at most w.
    features : sequence of RequestFeature

    Raises
    ------
    InvalidShape
        ``vectors`` is no matrix, or not finite.
    InvalidParameter
        ``components`` is out of range, or the vectors differ in fewer directions.

    Notes
    -----
    O(n w min(n, w)). Of each direction the sign is taken whose largest entry is positive.
    """
    rows = as_float64("vectors", vectors, (None, None))
    n, width = rows.shape
    _require_components(components, min(n - 1, width))
    centre = rows.mean(axis=0)
    _, spreads, directions = np.linalg.svd(rows - centre, full_matrices=False)
    if spreads[components - 1] <= 1e-9 * max(spreads[0], 1.0):
        raise InvalidParameter(f"components is {components}, and the {n} vectors differ in fewer directions")
    top = directions[:components]
    largest = np.abs(top).argmax(axis=1)
    signs = np.sign(top[np.arange(components), largest])
    scale = np.sqrt(n / np.square(spreads[:components]).sum())
    return ContextMap("pca", _rounded(top * signs[:, None] * scale), _rounded(centre), tuple(features))


def request_map(features: Sequence[RequestFeature] = ()) -> ContextMap:
    """Return a map that looks at what the request says alone, and at no embedding."""
    return ContextMap("request", np.zeros((0, 0)), np.zeros(0), tuple(features))


def _rounded(entries: Float64s) -> Float64s:
    rounded = np.ldexp(np.rint(np.ldexp(entries, _ENTRY_BITS)), -_ENTRY_BITS)
    rounded.setflags(write=False)
    return rounded


def _require_components(components: int, most: int) -> None:
    allowed = min(most, MOST_COMPONENTS)
    if not 1 <= components <= allowed:
        raise InvalidParameter(f"components is {components}, allowed 1 to {max(allowed, 1)}")


def _declared(feature: RequestFeature) -> list[object]:
    match feature:
        case NumberFeature(name, low, high):
            return ["number", name, low, high]
        case CategoryFeature(name, values):
            return ["category", name, list(values)]
        case HashedFeature(name, buckets, seed):
            return ["hashed", name, buckets, seed]


def _feature(kind: str, name: str, *rest: object) -> RequestFeature:
    match kind, rest:
        case "number", (float() | int() as low, float() | int() as high):
            return NumberFeature(name, low, high)
        case "category", (list() as values,):
            return CategoryFeature(name, tuple(values))
        case "hashed", (int() as buckets, int() as seed):
            return HashedFeature(name, buckets, seed)
    raise StateCorrupt(f"the saved map has a feature of kind {kind!r}")
