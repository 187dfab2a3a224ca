"""The parameters of a request: which there are, and those that stand for others."""

import math
from collections.abc import Mapping
from typing import Any

from fusioncam.errors import UsageError
from fusioncam.manifest import Manifest
from fusioncam.runtime.arguments import quote
from fusioncam.runtime.labels import class_number
from fusioncam.runtime.service.explain_if import parse_condition
from fusioncam.runtime.service.protocol.request_parser import CHOICES
from fusioncam.runtime.service.protocol.target_parameters import PARSERS
from fusioncam.runtime.service.protocol.tensors import Tensor

PARAMETERS = (
    *("binary_data_output", "class", "explain_if", "methods", "size", "timeout", "verify"),
    *CHOICES,
    *PARSERS,
)
# Parameters that tritonclient sends for models of other kinds; they mean nothing to a model without state.
IGNORED_PARAMETERS = (
    "priority",
    "sequence_id",
    "sequence_start",
    "sequence_end",
    "triton_enable_empty_final_response",
)


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Raise UsageError for a parameter that is unknown, or makes no sense by itself."""
    for name in parameters:
        if name not in PARAMETERS and name not in IGNORED_PARAMETERS:
            raise UsageError(f"there is no parameter {quote(name)}; the parameters are {', '.join(PARAMETERS)}")
    if not isinstance(parameters.get("binary_data_output", False), bool):
        raise UsageError("the parameter binary_data_output must be true or false")
    if "explain_if" in parameters:
        parse_condition(parameters["explain_if"])  # null, too, is no condition


def plain_parameters(
    parameters: Mapping[str, Any], tensors: Mapping[str, Tensor], manifest: Manifest
) -> dict[str, Any]:
    """Return parameters with `class_index` for `class`, a name or a number, and `method` for `methods`.

    Raises:
        UsageError: Both are given, or there is no such class.
    """
    plain = dict(parameters)
    for name, other in (("class", "class_index"), ("methods", "method")):
        if name not in plain:
            continue
        if other in plain or other in tensors:
            raise UsageError(f"{name} and {other} say the same: give one of them")
        plain[other] = plain.pop(name)
        if name == "class" and isinstance(plain[other], str):
            plain[other] = class_number(manifest, plain[other])
    return plain


def seconds_of(parameters: Mapping[str, Any]) -> float:
    """Return the seconds that a request gives itself; it gives microseconds, as in Triton, and 0 for no limit."""
    microseconds = parameters.get("timeout", 0)
    if isinstance(microseconds, bool) or not isinstance(microseconds, int) or microseconds < 0:
        raise UsageError(f"the parameter timeout must be a whole number of microseconds, not {quote(microseconds)}")
    return min(microseconds, 1 << 60) / 1e6 or math.inf
