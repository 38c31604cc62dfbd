"""From a filter to a bitmap over rows."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kshot.arrays import Bools
from kshot.index.columns import MISSING, Column, ListValue
from kshot.schemas.filters import All, Any_, Condition, Filter, Not


def fields_of(expression: Filter) -> set[str]:
    """Return every field that the filter reads."""
    match expression:
        case All(all=parts) | Any_(any=parts):
            return set().union(*(fields_of(part) for part in parts))
        case Not(not_=part):
            return fields_of(part)
        case Condition(field=name):
            return {name}


def bitmap(expression: Filter, field_to_column: Mapping[str, Column], n: int) -> Bools:
    """Evaluate a filter.

    Parameters
    ----------
    expression : Filter
    field_to_column : mapping
        A field that is not in it has no value in any row.
    n : int
        Rows.

    Returns
    -------
    bool array, shape (n,)

    Notes
    -----
    O(distinct values + n) per condition.
    """
    match expression:
        case All(all=parts):
            result = np.ones(n, np.bool_)
            for part in parts:
                result &= bitmap(part, field_to_column, n)
            return result
        case Any_(any=parts):
            result = np.zeros(n, np.bool_)
            for part in parts:
                result |= bitmap(part, field_to_column, n)
            return result
        case Not(not_=part):
            return ~bitmap(part, field_to_column, n)
        case Condition():
            return _condition(expression, field_to_column.get(expression.field), n)


def _condition(condition: Condition, column: Column | None, n: int) -> Bools:
    result = np.ones(n, np.bool_)
    for operator, operand in condition.comparisons():
        if operand is None:
            continue
        if operator == "exists":
            present = np.zeros(n, np.bool_) if column is None else column.codes != MISSING
            result &= present if operand else ~present
        elif column is None:
            return np.zeros(n, np.bool_)
        else:
            result &= _lookup(column, _predicate(operator, operand))
    return result


def _lookup(column: Column, holds: Callable[[Any], bool]) -> Bools:
    used = int(column.codes.max(initial=MISSING)) + 1
    # The last entry answers for MISSING, which is -1.
    table = np.zeros(used + 1, np.bool_)
    for code in range(used):
        table[code] = holds(column.values[code])
    return table[column.codes]


def _predicate(operator: str, operand: Any) -> Callable[[Any], bool]:
    match operator:
        case "eq":
            return lambda value: _equal(value, operand)
        case "ne":
            return lambda value: not _equal(value, operand)
        case "in":
            wanted = frozenset((_family(one), one) for one in operand)
            return lambda value: (_family(value), value) in wanted
        case "contains":
            return lambda value: _contains(value, operand)
        case _:
            return lambda value: _ordered(operator, value, operand)


def _family(value: Any) -> str:
    """Values compare within a family only: True is not 1, and "1" is not 1."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else "list"


def _equal(value: Any, operand: Any) -> bool:
    return _family(value) == _family(operand) and bool(value == operand)


def _contains(value: Any, operand: Any) -> bool:
    if isinstance(value, ListValue):
        return any(_equal(item, operand) for item in value.items)
    return isinstance(value, str) and isinstance(operand, str) and operand in value


def _ordered(operator: str, value: Any, operand: Any) -> bool:
    if _family(value) != _family(operand):
        return False
    match operator:
        case "gt":
            return bool(value > operand)
        case "gte":
            return bool(value >= operand)
        case "lt":
            return bool(value < operand)
        case _:
            return bool(value <= operand)
