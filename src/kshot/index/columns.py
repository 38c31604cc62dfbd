"""Dictionary-encoded columns: what filters, exclusions and label quotas read.

Each field of the examples (``split``, ``label``, ``metadata.lang``, ...) is one column: a list of distinct
values and one int32 code per row. A predicate is evaluated once per distinct value and then looked up.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kshot.arrays import Float64s
from kshot.records import canonical_json

MISSING = -1
MAX_METADATA_FIELDS = 1_000
"""Metadata fields that one pool can be filtered by; a column takes memory in every row, filled or not."""


@dataclass(frozen=True, slots=True)
class Column:
    """One field of every row: ``values[codes[row]]``, or nothing where the code is `MISSING`.

    ``values`` may grow after this column was made; the codes never point at what came later.
    """

    codes: NDArray[np.int32]
    values: Sequence[Any]

    def counts(self, mask: NDArray[np.bool_]) -> dict[Any, int]:
        """Count the values of the rows in ``mask``, most frequent first; rows without one are left out."""
        codes = self.codes[mask]
        found, counts = np.unique(codes[codes != MISSING], return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return {self.values[found[i]]: int(counts[i]) for i in order}

    def numbers(self) -> Float64s:
        """Return the number in every row; NaN where there is no value, or one that is no number."""
        found = [as_number(value) for value in self.values]
        # The last stands for `MISSING`, which is -1.
        return np.array([*found, None], np.float64)[self.codes]


def as_number(value: Any) -> float | None:
    """Return a JSON number as a finite float; None for anything else."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    # JSON's integers know no bound.
    return float(max(-sys.float_info.max, min(sys.float_info.max, value)))


def flatten(metadata: Mapping[str, Any], prefix: str = "metadata") -> Iterable[tuple[str, Any]]:
    """Yield (field, value) for every leaf, with dots between the names on the way; a list is one value.

    An object has no value of its own, and null is no value. A field comes twice where ``{"a.b": ...}`` stands
    beside ``{"a": {"b": ...}}``.
    """
    for name, value in metadata.items():
        key = f"{prefix}.{name}"
        if isinstance(value, Mapping):
            yield from flatten(value, key)
        elif value is not None:
            yield key, value


@dataclass(frozen=True, slots=True)
class ListValue:
    """A list as a column's value: hashable by its JSON text."""

    text: str
    items: tuple[Any, ...]

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ListValue) and other.text == self.text


@dataclass(slots=True)
class _Growing:
    """A column that is being written: codes with room to grow, and the dictionary."""

    codes: NDArray[np.int32]
    values: list[Any] = field(default_factory=list)
    value_to_code: dict[tuple[type, Any], int] = field(default_factory=dict)
    #: Rows of ``codes`` that a frozen column shows.
    frozen_rows: int = 0

    def write(self, row: int, value: Any) -> None:
        # 1, 1.0 and True are equal in Python and different JSON.
        key = type(value), value
        code = self.value_to_code.get(key)
        if code is None:
            code = self.value_to_code[key] = len(self.values)
            self.values.append(value)
        if row >= len(self.codes):
            self.reserve(row + 1)
        self._set(row, code)

    def clear(self, row: int) -> None:
        if row < len(self.codes):
            self._set(row, MISSING)

    def _set(self, row: int, code: int) -> None:
        if row < self.frozen_rows:
            if self.codes[row] == code:
                return
            self.codes = self.codes.copy()
            self.frozen_rows = 0
        self.codes[row] = code

    def reserve(self, rows: int) -> None:
        have = len(self.codes)
        if have < rows:
            self.codes = np.concatenate([self.codes, np.full(max(rows - have, have), MISSING, np.int32)])
            self.frozen_rows = 0

    def freeze(self, rows: int) -> Column:
        self.reserve(rows)
        self.frozen_rows = rows
        codes = self.codes[:rows]
        codes.flags.writeable = False
        return Column(codes, self.values)


class ColumnWriter:
    """Builds columns row by row; `freeze` gives an immutable view of the rows so far.

    One writer, any number of readers of frozen columns: appending writes behind every frozen view, and
    changing a row that a view shows copies the column first.
    """

    def __init__(self) -> None:
        self._rows = 0
        #: Rows that were ever written. To clear them takes a look at every column.
        self._filled: set[int] = set()
        self._metadata_fields = 0
        self._field_to_column: dict[str, _Growing] = {}

    def append(self, fields: Iterable[tuple[str, Any]]) -> None:
        """Add one row; None is no value, and of a field that comes twice the last value counts."""
        self._rows += 1
        self.replace(self._rows - 1, fields)

    def extend(self, rows: int) -> None:
        """Add rows without values."""
        self._rows += rows

    def replace(self, row: int, fields: Iterable[tuple[str, Any]]) -> None:
        """Write other values into an existing row, as `append` does; all former ones are gone."""
        name_to_value = {name: value for name, value in fields if value is not None}
        if row in self._filled:
            for name, column in self._field_to_column.items():
                if name not in name_to_value:
                    column.clear(row)
        self._filled.add(row)
        for name, value in name_to_value.items():
            found = self._field_to_column.get(name) or self._new_column(name)
            if found is not None:
                found.write(row, _hashable(value))

    def freeze(self) -> dict[str, Column]:
        """Return the columns as they are now."""
        return {name: column.freeze(self._rows) for name, column in self._field_to_column.items()}

    def _new_column(self, name: str) -> _Growing | None:
        """Make room for a field; None for metadata fields beyond `MAX_METADATA_FIELDS`."""
        if name.startswith("metadata."):
            if self._metadata_fields == MAX_METADATA_FIELDS:
                return None
            self._metadata_fields += 1
        column = self._field_to_column[name] = _Growing(np.full(max(64, self._rows), MISSING, np.int32))
        return column


def _hashable(value: Any) -> Any:
    return ListValue(canonical_json(value), tuple(value)) if isinstance(value, list) else value
