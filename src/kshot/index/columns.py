"""Dictionary-encoded columns: what filters, exclusions and label quotas read.

Each field of the examples (``split``, ``label``, ``metadata.lang``, ...) is one column: a list of distinct
values and one int32 code per row. A predicate is evaluated once per distinct value and then looked up.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kshot.records import canonical_json

MISSING = -1
_MAX_METADATA_DEPTH = 8


@dataclass(frozen=True, slots=True)
class Column:
    """One field of every row: ``values[codes[row]]``, or nothing where the code is `MISSING`.

    ``values`` may grow after this column was made; the codes never point at what came later.
    """

    codes: NDArray[np.int32]
    values: Sequence[Any]

    def counts(self, mask: NDArray[np.bool_]) -> dict[Any, int]:
        """Count the values of the rows in ``mask``, most frequent first; rows without a value are left out."""
        codes = self.codes[mask]
        found, counts = np.unique(codes[codes != MISSING], return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return {self.values[found[i]]: int(counts[i]) for i in order}


def flatten(
    metadata: Mapping[str, Any], prefix: str = "metadata", depth: int = 0
) -> Iterable[tuple[str, Any]]:
    """Yield (field, value) for every leaf; a list is one value, encoded as JSON text behind a marker."""
    for name, value in metadata.items():
        key = f"{prefix}.{name}"
        if isinstance(value, Mapping) and depth < _MAX_METADATA_DEPTH:
            yield from flatten(value, key, depth + 1)
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


class ColumnWriter:
    """Builds columns row by row; `freeze` gives an immutable view of the first n rows.

    One writer, any number of readers of frozen columns: appending writes behind every frozen view, and
    changing a row that a view may show copies the codes first.
    """

    def __init__(self) -> None:
        self._rows = 0
        self._field_to_column: dict[str, _Growing] = {}
        self._frozen_rows = 0

    def append(self, fields: Iterable[tuple[str, Any]]) -> None:
        """Add one row."""
        row = self._rows
        self._rows += 1
        for name, value in fields:
            self._set(name, row, value)

    def replace(self, row: int, fields: Iterable[tuple[str, Any]]) -> None:
        """Write another example's values into an existing row."""
        if row < self._frozen_rows:
            for column in self._field_to_column.values():
                column.codes = column.codes.copy()
            self._frozen_rows = 0
        for column in self._field_to_column.values():
            if row < len(column.codes):
                column.codes[row] = MISSING
        for name, value in fields:
            self._set(name, row, value)

    def freeze(self) -> dict[str, Column]:
        """Return the columns as they are now."""
        self._frozen_rows = self._rows
        return {
            name: Column(self._room(column, self._rows)[: self._rows], column.values)
            for name, column in self._field_to_column.items()
        }

    def _set(self, name: str, row: int, value: Any) -> None:
        if value is None:
            return
        if isinstance(value, list | dict):
            value = ListValue(canonical_json(value), tuple(value))
        column = self._field_to_column.get(name)
        if column is None:
            column = self._field_to_column[name] = _Growing(np.full(max(64, self._rows), MISSING, np.int32))
        key = (type(value), value)
        code = column.value_to_code.get(key)
        if code is None:
            code = column.value_to_code[key] = len(column.values)
            column.values.append(value)
        self._room(column, row + 1)[row] = code

    @staticmethod
    def _room(column: _Growing, rows: int) -> NDArray[np.int32]:
        have = len(column.codes)
        if have < rows:
            column.codes = np.concatenate([column.codes, np.full(max(rows - have, have), MISSING, np.int32)])
        return column.codes
