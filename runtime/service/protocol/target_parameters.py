"""The parameters of a request that name targets, and how the value of each is read."""

from collections.abc import Callable, Mapping
from typing import Any

from fusioncam.errors import UsageError
from fusioncam.runtime.arguments import quote

PLACES = {
    "point": ("x,y in pixels of the photo, such as 40,60", 2),
    "box": ("x1,y1,x2,y2 in pixels of the photo, such as 40,60,200,300", 4),
}
"""The form of what lies on a photo, and how many numbers it has."""


def _whole(name: str, parameter: Any) -> int:
    if isinstance(parameter, bool) or not isinstance(parameter, int):
        raise UsageError(f"the parameter {name} must be a whole number, not {quote(parameter)}")
    return parameter


def _switch(name: str, parameter: Any) -> bool:
    if not isinstance(parameter, bool):
        raise UsageError(f"the parameter {name} must be true or false, not {quote(parameter)}")
    return parameter


def _place(name: str, parameter: Any) -> tuple[float, ...]:
    """Return the point or the box of a text such as 40,60, or of a list."""
    use, count = PLACES[name]
    try:
        numbers = tuple(map(float, parameter.split(",") if isinstance(parameter, str) else parameter))
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != count:
        raise UsageError(f"the parameter {name} is {use}, not {quote(parameter)}")
    return numbers


def _list(name: str, parameter: Any) -> list[int]:
    """Return the numbers of a text such as 0,3, of a list, or of one number."""
    given = parameter.split(",") if isinstance(parameter, str) else parameter
    numbers = given if isinstance(given, list) else [given]
    try:
        return [_whole(name, int(n) if isinstance(n, str) else n) for n in numbers]
    except ValueError:
        raise UsageError(f"the parameter {name} is numbers such as 0,3, not {quote(parameter)}") from None


def _as_given(name: str, parameter: Any) -> Any:
    """Return a parameter that is checked with the target; it is one for all."""
    if isinstance(parameter, list):
        raise UsageError(f"the parameter {name} is one value, not {quote(parameter)}")
    return parameter


PARSERS: Mapping[str, Callable[[str, Any], Any]] = {
    **{"down": _switch, "peak": _switch, "together": _switch},
    **{"value": _whole, "most": _whole, "detection": _list},
    **{"point": _place, "box": _place},
    **dict.fromkeys(("by", "conf", "iou", "keypoint", "levels"), _as_given),
}
"""The reader of each parameter that names targets: it returns the value, or a list where the request has several."""
