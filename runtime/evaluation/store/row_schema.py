"""What a row of an evaluation looks like, to know a damaged one: a file may change while nobody looks."""

from collections.abc import Callable
from types import NoneType
from typing import Any, TypeAlias, TypeGuard

Check: TypeAlias = Callable[[Any], bool]

LARGEST = 1e100  # of a figure: its square and sums of those are finite


def whole_row(row: Any) -> TypeGuard[dict[str, Any]]:
    """Whether it is a row as `Evaluator` makes them: of a photo that failed, with its error, or with methods.

    Args:
        row: As JSON gives it.
    """
    return _is(dict)(row) and _ROW(row) and "image" in row and bool({"error", "methods"} & {*row})


# Exact types: True is no number.
def _is(*types: type) -> Check:
    return lambda value: type(value) in types


def _figure(value: Any) -> bool:
    # Nor is NaN, which is never less than anything; an int may be larger than any float.
    return value is None or (_is(int, float)(value) and -LARGEST < value < LARGEST)


def _whole(value: Any) -> bool:
    return _is(int)(value) and -(1 << 63) <= value < 1 << 63  # what Parquet takes


def _each(check: Check) -> Check:
    return lambda value: _is(list)(value) and all(map(check, value))


def _values(check: Check) -> Check:
    return lambda value: _is(dict)(value) and all(map(check, value.values()))


def _record(**checks: Check) -> Check:
    """A dictionary in which what there is of these is as it should be."""
    return lambda value: _is(dict)(value) and all(check(value[key]) for key, check in checks.items() if key in value)


def _size(value: Any) -> bool:
    return _each(_whole)(value) and len(value) == 2


_TEXTS = _each(_is(str))
_METHOD = _record(metrics=_values(_figure), curves=_values(_each(_figure)), flags=_TEXTS, picture=_is(str))
_ROW = _record(
    image=_is(str),
    error=_is(str),
    sha256=_is(str),
    size=_size,
    class_index=_whole,
    label=_is(str, NoneType),
    probability=_figure,
    accepted=_each(_whole),
    correct=_is(bool, NoneType),
    passes=_record(run=_whole, channels=_whole, missing=_figure),
    seconds=_figure,
    problems=_TEXTS,
    methods=_values(_METHOD),
)
