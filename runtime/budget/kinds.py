"""The kinds of budgets, and the way from a user's words to them."""

import math
import operator
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.runtime.arguments import quote
from fusioncam.runtime.explanation import TOLERANCE

USE = "use exact, auto, auto:0.01, a time like 80ms or 0.5s, a number of passes like 64, or a share like 0.2"
SHORTEST, LONGEST = 1e-6, 1e6  # seconds of a deadline


@dataclass(frozen=True)
class Auto:
    """The budget that ends once the map is within a tolerance; its text is `auto`, or `auto:TOLERANCE`.

    Attributes:
        tolerance: Promised error 1 - r^2 of Score-CAM's map, r its correlation with the exact one; in (0, 1).
    """

    tolerance: float = TOLERANCE

    def __str__(self) -> str:
        """Return the text that `parse_budget` reads."""
        return "auto" if self.tolerance == TOLERANCE else f"auto:{self.tolerance:g}"


@dataclass(frozen=True)
class Deadline:
    """The budget that ends when its time is up; its text is like `80ms`.

    Attributes:
        seconds: The time, from the question to the maps.
    """

    seconds: float

    def __str__(self) -> str:
        """Return the text that `parse_budget` reads: milliseconds, to the microsecond."""
        return f"{1e3 * self.seconds:.3f}".rstrip("0").rstrip(".") + "ms"


Budget = str | int | float | Auto | Deadline
"""A budget as a user gives it. After `checked_budget`, `exact` is the only text."""


def auto(tolerance: float = TOLERANCE) -> Auto:
    """Return the budget that ends once the map is within a tolerance.

    Args:
        tolerance: Promised error 1 - r^2 of Score-CAM's map, r its correlation with the exact one; in (0, 1).

    Raises:
        UsageError: The tolerance is not in (0, 1).
    """
    number = isinstance(tolerance, int | float | np.floating) and not isinstance(tolerance, bool)
    if not number or not 0 < tolerance < 1:
        raise UsageError(
            f"no tolerance {quote(tolerance)}: it is the error 1 - r^2 of the map, above 0 and below 1, like 0.001"
        )
    return Auto(float(tolerance))


def deadline(seconds: float) -> Deadline:
    """Return the budget that makes the best map within a time.

    Args:
        seconds: The time from the question to the maps, 1e-6 to 1e6; it counts to the microsecond.

    Raises:
        UsageError: The time is no number, or out of this range.
    """
    number = isinstance(seconds, int | float | np.integer | np.floating) and not isinstance(seconds, bool)
    if not number or not SHORTEST <= seconds <= LONGEST:
        raise UsageError(
            f"no deadline {quote(seconds)}: it is a time above 0, like 80ms or 0.5s; deadline(0.08) takes seconds"
        )
    return Deadline(round(float(seconds), 6))


def checked_budget(value: Any) -> Budget:
    """Return a budget: `exact`, `auto`, `80ms`, what `auto` and `deadline` return, a number of passes, or a share.

    Raises:
        UsageError: The value is no budget.
    """
    if isinstance(value, Auto):
        return auto(value.tolerance)
    if isinstance(value, Deadline):
        return deadline(value.seconds)
    if isinstance(value, str):
        return _of_word(value)
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is not None and number > 0:
        return number
    share = float(value) if isinstance(value, float | np.floating) else math.nan
    if 0 < share <= 1:
        return share
    raise _no_budget(value)


def parse_budget(text: str) -> Budget:
    """Return a budget of the command line: 200 is a number of passes, 0.2 and 1.0 are shares.

    Raises:
        UsageError: The text is no budget.
    """
    text = text.strip()
    if re.fullmatch("[0-9]{1,9}", text):
        return checked_budget(int(text))
    share = _decimal(text)
    return checked_budget(text if share is None else share)


def budget_json(budget: Budget) -> str | int | float:
    """Return a budget as a value of JSON, which `checked_budget` reads."""
    return budget if isinstance(budget, int | float) else str(budget)


def _of_word(text: str) -> Budget:
    if text in ("exact", "auto"):
        return Auto() if text == "auto" else text
    if found := re.fullmatch(r"(-?[0-9]{1,9}(?:\.[0-9]{1,9})?) ?(ms|s)", text):
        seconds = float(found[1]) / (1000 if found[2] == "ms" else 1)
        return deadline(seconds if SHORTEST <= seconds <= LONGEST else text)  # type: ignore[arg-type]  # to be quoted
    word, _, number = text.partition(":")
    if word != "auto":
        raise _no_budget(text)
    return auto(_decimal(number) or number)  # type: ignore[arg-type]  # a text is no tolerance


def _decimal(text: str) -> float | None:
    """Return a plain decimal number such as 0.2, 1. or 1e-3; None for another text."""
    found = re.fullmatch(r"[0-9]{0,9}\.[0-9]{1,20}|[0-9]{1,9}\.|[0-9]{1,2}(\.[0-9]{1,20})?e-[0-9]{1,3}", text)
    return float(text) if found else None


def _no_budget(value: Any) -> UsageError:
    return UsageError(f"no budget {quote(value)}; {USE}")
