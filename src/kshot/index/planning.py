"""What a plan is made from: the rows of a snapshot that may be labelled, those that are, and their fields."""

from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from kshot.arrays import Bools, Int64s
from kshot.index.columns import MISSING, ListValue
from kshot.index.filtering import bitmap, fields_of
from kshot.index.snapshot import Snapshot
from kshot.records import Status
from kshot.schemas.filters import Filter


@dataclass(frozen=True, slots=True)
class PlanRows:
    """Rows that take part in a plan, no two of equal inputs.

    Attributes
    ----------
    rows : int64 array, shape (m,)
        Ascending rows of the snapshot.
    labelled : bool array, shape (m,)
        Rows with outputs.
    repeated : int
        Rows without outputs that were left out, since another row has the same inputs.
    unseen_fields : tuple of str
        Fields of the filter that no row has.
    """

    rows: Int64s
    labelled: Bools
    repeated: int
    unseen_fields: tuple[str, ...]


def plan_rows(snapshot: Snapshot, expression: Filter | None, exclude_splits: Collection[str]) -> PlanRows:
    """Return the rows that a plan may choose from, and those that are labelled already.

    Left out are retired examples, those that do not match the filter and those of the splits named. Of rows
    with equal inputs one takes part: a labelled one if there is any, else the first.
    """
    mask = snapshot.live & ~_having(snapshot, "status", {str(Status.RETIRED)})
    mask &= ~_having(snapshot, "split", exclude_splits)
    unseen: tuple[str, ...] = ()
    if expression is not None:
        mask &= bitmap(expression, snapshot.field_to_column, len(snapshot))
        unseen = tuple(sorted(name for name in fields_of(expression) if not _is_seen(snapshot, name)))
    rows = np.flatnonzero(mask)
    labelled = snapshot.annotated[rows]
    # Labelled rows first, each kind in row order: the first of equal inputs is the one that stays.
    order = np.argsort(~labelled, kind="stable")
    _, first = np.unique(snapshot.hashes.inputs[rows[order]], return_index=True)
    kept = np.sort(order[first])
    repeated = int(np.count_nonzero(~labelled)) - int(np.count_nonzero(~labelled[kept]))
    return PlanRows(rows[kept], labelled[kept], repeated, unseen)


def row_ids(snapshot: Snapshot, rows: Int64s) -> list[str]:
    """Return the ids of live rows."""
    column = snapshot.field_to_column["id"]
    return [column.values[code] for code in column.codes[rows]]


def text_in(snapshot: Snapshot, rows: Int64s, field: str) -> str | None:
    """Return the first text that stands in a field of some rows; None if no row has one."""
    column = snapshot.field_to_column.get(field)
    if column is None:
        return None
    codes = column.codes[rows]
    values = (column.values[code] for code in codes[codes != MISSING])
    return next((value for value in values if isinstance(value, str)), None)


def strata_of(snapshot: Snapshot, rows: Int64s, field: str) -> tuple[Int64s, list[str | None]]:
    """Divide rows by the value of a field.

    Returns
    -------
    codes : int64 array, shape (m,)
        The stratum of each row.
    names : list of str or None
        What the codes stand for, in the order of their first rows; None for rows without a value. Values that
        are no text stand as their JSON.
    """
    column = snapshot.field_to_column.get(field)
    if column is None:
        return np.zeros(len(rows), np.int64), [None]
    found, first, codes = np.unique(column.codes[rows], return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    names = [None if code == MISSING else _name(column.values[code]) for code in found[order]]
    return place[codes], names


def tags_of(snapshot: Snapshot, rows: Int64s, field: str) -> tuple[csr_array, list[str]]:
    """Read the tags of rows: a text is one tag, a list as many as it has items.

    Returns
    -------
    tags : csr_array of bool, shape (m, A)
    names : list of str, A of them
        In the order in which they first occur.
    """
    column = snapshot.field_to_column.get(field)
    if column is None:
        return csr_array((len(rows), 0), dtype=np.bool_), []
    codes = column.codes[rows]
    code_to_tags = {
        code: list(dict.fromkeys(_tags(column.values[code]))) for code in np.unique(codes) if code != MISSING
    }
    return _matrix((code_to_tags.get(code, []) for code in codes.tolist()), np.bool_)


def structures_of_rows(structures: Iterable[Sequence[Hashable]]) -> csr_array:
    """Count the structures of each row, shape (m, S); columns in the order in which they first occur."""
    return _matrix(structures, np.int64)[0]


def _matrix(rows: Iterable[Sequence[Hashable]], dtype: Any) -> tuple[csr_array, list[Any]]:
    part_to_column: dict[Hashable, int] = {}
    columns: list[int] = []
    ends = [0]
    for parts in rows:
        columns.extend(part_to_column.setdefault(part, len(part_to_column)) for part in parts)
        ends.append(len(columns))
    shape = len(ends) - 1, len(part_to_column)
    matrix = csr_array((np.ones(len(columns), np.int64), np.array(columns, np.int64), ends), shape=shape)
    matrix.sum_duplicates()
    return matrix.astype(dtype), list(part_to_column)


def _tags(value: Any) -> list[str]:
    items: Sequence[Any] = value.items if isinstance(value, ListValue) else [value]
    return [_name(item) for item in items]


def _name(value: Any) -> str:
    if isinstance(value, ListValue):
        return value.text
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


def _having(snapshot: Snapshot, field: str, values: Collection[str]) -> Bools:
    column = snapshot.field_to_column.get(field)
    if column is None or not values:
        return np.zeros(len(snapshot), np.bool_)
    wanted: NDArray[np.int64] = np.array(
        [code for code, value in enumerate(column.values) if value in values], np.int64
    )
    return np.isin(column.codes, wanted)


def _is_seen(snapshot: Snapshot, field: str) -> bool:
    column = snapshot.field_to_column.get(field)
    return column is not None and bool((snapshot.live & (column.codes != MISSING)).any())
