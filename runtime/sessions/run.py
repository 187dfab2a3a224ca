"""Runs of a session, whose failures become errors of one line."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime

from fusioncam.errors import FusionCamError
from fusioncam.kernels.arrays import Array
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


def run_targets(
    session: onnxruntime.InferenceSession,
    outputs: Sequence[str],
    feeds: dict[str, Any],
    targets: Mapping[str, Array],
    singly: bool,
) -> list[Any]:
    """Run a session that scores T targets, and return the outputs (N, T); without targets, whatever it gives.

    Args:
        session: The session.
        outputs: Names of its outputs.
        feeds: What it takes beside the targets.
        targets: The targets, (T, ...) each, by the names of its inputs.
        singly: Whether it takes one target per run.

    Raises:
        FusionCamError: As of `run`.
    """
    if not singly or not targets:
        return run(session, outputs, {**feeds, **targets})
    count = len(next(iter(targets.values())))
    each = [run(session, outputs, {**feeds, **{n: t[i : i + 1] for n, t in targets.items()}}) for i in range(count)]
    return [np.concatenate(of_all, axis=1) for of_all in zip(*each, strict=True)]
