"""Reverse-reachable sets: samples of who would have reached a row, from which influence is read off."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csc_array, csr_array

from kshot.arrays import Bools, Float32s, Int64s
from kshot.selectors.annotation.neighbour_graph import Int32s

_MARKED_KEYS = 1 << 24
"""Keys up to which each has a mark of its own, 80 MB in all; beyond, those present are hashed."""
_EMPTY = np.int64(-1)
_GOLDEN = np.uint64(0x9E37_79B9_7F4A_7C15)
"""2 ** 64 over the golden ratio: products with it spread consecutive numbers evenly (Fibonacci hashing)."""


@dataclass(frozen=True, slots=True)
class ReachableSets:
    """Sets of rows, one after the other.

    Attributes
    ----------
    offsets : int64 array, shape (t + 1,)
        Set i has the members ``offsets[i]:offsets[i + 1]``, at least one.
    members : int32 array, shape (offsets[-1],)
        In the order in which they were found.
    """

    offsets: Int64s
    members: Int32s

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def hit_by(self, rows: Bools) -> Bools:
        """Tell which sets have one of the rows, given as a mask, among their members."""
        return np.logical_or.reduceat(rows[self.members], self.offsets[:-1])

    def members_of(self, sets: Int32s) -> Int32s:
        """Return the members of some sets, one set after the other."""
        starts = self.offsets[sets]
        sizes = self.offsets[sets + 1] - starts
        ends = np.cumsum(sizes)
        places = np.repeat(starts - (ends - sizes), sizes)
        places += np.arange(len(places))
        members: Int32s = self.members[places]
        return members

    def by_member(self, n: int) -> tuple[Int64s, Int32s]:
        """Return offsets, shape (n + 1,), and the sets that each of n rows is a member of, ascending."""
        ones = np.ones(len(self.members), np.bool_)
        turned = csr_array((ones, self.members, self.offsets), shape=(len(self), n)).tocsc()
        return turned.indptr.astype(np.int64), turned.indices.astype(np.int32, copy=False)


def joined(parts: Sequence[ReachableSets]) -> ReachableSets:
    """Put sets of several samples behind one another."""
    sizes = [np.diff(part.offsets) for part in parts]
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(sizes))])
    return ReachableSets(offsets, np.concatenate([part.members for part in parts]))


class ReachableSetSampler:
    """Draws sets: a row, and all that reach it along edges of which each is there with its probability.

    A row's share of such sets is its influence: the expected number of rows that it activates, itself
    included, is n times the share of the sets that it is a member of; and so for several rows together.

    Parameters
    ----------
    probabilities : csr_array of float, shape (n, n)
        Entry (i, j): how likely i, once active, activates j; in [0, 1].

    Notes
    -----
    All sets of a batch grow together, round by round. O(e) time for e edges that lead to members, which is
    about k per member.

    References
    ----------
    .. [1] Borgs, Brautbar, Chayes, Lucier (2014), "Maximizing social influence in nearly optimal time", SODA.
    """

    def __init__(self, probabilities: "csr_array[np.float64]") -> None:
        edges: csc_array = probabilities.tocsc()
        edges.eliminate_zeros()
        self.n = int(edges.shape[0])
        self._ends: Int64s = edges.indptr[1:].astype(np.int64)
        self._degrees: Int64s = np.diff(edges.indptr).astype(np.int64)
        self._sources: Int32s = edges.indices.astype(np.int32, copy=False)
        self._probabilities: Float32s = edges.data.astype(np.float32)
        self._largest = self._probabilities.max(initial=0.0)

    def draw(self, count: int, rng: np.random.Generator) -> ReachableSets:
        """Draw ``count`` independent sets, each from a row drawn uniformly."""
        sets: Int64s = np.arange(count)
        rows: Int64s = rng.integers(0, self.n, count)
        seen = _Marks(count * self.n) if count * self.n <= _MARKED_KEYS else _KeySet(4 * count)
        seen.add(sets * self.n + rows)
        rounds = [(sets, rows)]
        while len(rows):
            edges, owner = self._edges_to(rows, rng)
            sets, rows = sets[owner], self._sources[edges].astype(np.int64)
            new = np.flatnonzero(seen.add(sets * self.n + rows))
            sets, rows = sets[new], rows[new]
            rounds.append((sets, rows))
        of_set, members = (np.concatenate(parts) for parts in zip(*rounds, strict=True))
        # A stable sort of numbers of 16 bits takes them digit by digit.
        order = np.argsort(of_set.astype(np.min_scalar_type(count)), kind="stable")
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(of_set, minlength=count))])
        return ReachableSets(offsets, members[order].astype(np.int32))

    def _edges_to(self, rows: Int64s, rng: np.random.Generator) -> tuple[Int64s, Int64s]:
        """Toss a coin for every edge to some rows; return those that are there, and where each leads to."""
        degrees = self._degrees[rows]
        ends = np.cumsum(degrees)
        coins = rng.random(int(ends[-1]), np.float32)
        # Most coins decide without a look at the edge.
        tossed = np.flatnonzero(coins < self._largest)
        owner = np.repeat(np.arange(len(rows)), degrees)[tossed]
        edges = tossed + (self._ends[rows] - ends)[owner]
        there = np.flatnonzero(coins[tossed] < self._probabilities[edges])
        return edges[there], owner[there]


class _Marks:
    """A set of numbers below ``size``: one mark for each."""

    def __init__(self, size: int) -> None:
        self._marks: Bools = np.zeros(size, np.bool_)
        self._claims = np.empty(size, np.int32)

    def add(self, keys: Int64s) -> Bools:
        """Add keys and tell which of them are new: of equal ones, the last."""
        new = ~self._marks[keys]
        self._marks[keys] = True
        claims = np.arange(len(keys), dtype=np.int32)
        self._claims[keys] = claims
        new &= self._claims[keys] == claims
        return new


class _KeySet:
    """A set of numbers to which many are added at once: open addressing in one array."""

    def __init__(self, expected: int) -> None:
        self._bits = max(10, (2 * expected - 1).bit_length())
        self._count = 0
        self._table: Int64s = np.full(1 << self._bits, _EMPTY)
        self._claims = np.empty(1 << self._bits, np.int32)

    def add(self, keys: Int64s) -> Bools:
        """Add keys and tell which of them are new: of equal ones, the last."""
        if 2 * (self._count + len(keys)) > len(self._table):
            self._grow(self._count + len(keys))
        new = self._place(keys)
        self._count += int(np.count_nonzero(new))
        return new

    def _grow(self, count: int) -> None:
        present = self._table[self._table != _EMPTY]
        self._bits = (4 * count - 1).bit_length()
        self._table = np.full(1 << self._bits, _EMPTY)
        self._claims = np.empty(1 << self._bits, np.int32)
        self._place(present)

    def _place(self, keys: Int64s) -> Bools:
        table, claims, mask = self._table, self._claims, len(self._table) - 1
        new = np.zeros(len(keys), np.bool_)
        slots = ((keys.astype(np.uint64) * _GOLDEN) >> np.uint64(64 - self._bits)).astype(np.int64)
        left = np.arange(len(keys), dtype=np.int32)
        while len(left):
            wanted = keys[left]
            found = table[slots]
            free = np.flatnonzero(found == _EMPTY)
            # Of several that find the same slot free the last stays; other keys look at the next slot.
            table[slots[free]] = wanted[free]
            claims[slots[free]] = left[free]
            new[left[free]] = claims[slots[free]] == left[free]
            on = np.flatnonzero(table[slots] != wanted)
            left, slots = left[on], (slots[on] + 1) & mask
        return new
