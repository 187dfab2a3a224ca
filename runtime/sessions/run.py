"""Runs of a session, whose failures become errors of one line."""

from collections.abc import Sequence
from typing import Any

import onnxruntime

from fusioncam.errors import FusionCamError
from fusioncam.runtime.sessions.failures import run_failure


def run(
    session: onnxruntime.InferenceSession,
    outputs: Sequence[str],
    feeds: dict[str, Any],
    options: onnxruntime.RunOptions | None = None,
) -> list[Any]:
    """Run a session and return the named outputs.

    Raises:
        OutOfMemoryError: There is not enough memory.
        FusionCamError: onnxruntime fails otherwise.
    """
    try:
        results: list[Any] = session.run(outputs, feeds, *([] if options is None else [options]))
    except FusionCamError:  # of a process that was forked
        raise
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise run_failure(error) from error
    return results
