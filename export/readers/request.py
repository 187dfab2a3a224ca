"""The request of a user about the output: which one it is, what the model does, and how it is read."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import get_args

from fusioncam.errors import UsageError
from fusioncam.export.readers.boxes import BOX_READERS, CUT_READERS, is_own
from fusioncam.export.readers.table import READERS
from fusioncam.forms import Task
from fusioncam.manifest import Ending

TASKS: tuple[Task, ...] = get_args(Task)
FEW = 8  # names that are listed beside the closest one
DETECTS: tuple[Task, ...] = ("detect",)


@dataclass(frozen=True)
class Request:
    """Options of a user about the output; None leaves the choice to this package."""

    output: str | None = None
    task: Task | None = None
    reader: str | None = None
    ending: Ending | None = None


def request_of(
    output: str | None, task: str | None, reader: str | None, ending: Ending | None, classes: bool = False
) -> Request:
    """Return what a user says of the outputs.

    Args:
        output: Name of the output.
        task: What the model does.
        reader: Name of the reader.
        ending: How logits become probabilities.
        classes: Whether vectors of classes make a classifier of an embedding: `embed` is read, whatever it becomes.

    Raises:
        UsageError: There is no such task or reader, or they contradict each other.
    """
    _known("task", task, TASKS)
    if isinstance(reader, str) and reader.endswith(".py"):
        raise UsageError(f"reader {reader!r} names no function of the file; say {reader}:FUNCTION")
    of_boxes = [
        *(r.name for r in BOX_READERS + CUT_READERS),
        *([str(reader)] if is_own(reader) else []),
    ]
    _known("reader", reader, [*(r.name for r in READERS), *of_boxes])
    wanted = next((t for t in TASKS if t == task), "value" if ending == "value" else None)
    if (wanted == "value") != (ending == "value") and None not in (wanted, ending):
        raise UsageError(f"--task {wanted} and --ending {ending} contradict each other; leave one of them out")
    if classes:
        if wanted not in (None, "classify", "embed") or ending == "value":
            raise UsageError("class vectors make a classifier of an embedding; leave --task and --ending value out")
        return replace(request_of(output, "embed", reader, None), ending=ending)
    if wanted == "embed" and ending is not None:
        raise UsageError(f"an embedding has no probabilities; leave --ending {ending} out")
    tasks = {r.name: r.tasks for r in READERS} | dict.fromkeys(of_boxes, DETECTS)
    fitting = tasks.get(reader or "", TASKS)
    if wanted is not None and wanted not in fitting:
        raise UsageError(f"reader {reader!r} is for --task {' or '.join(fitting)}, not for {wanted}")
    return Request(output, "detect" if fitting is DETECTS else wanted, reader, "value" if wanted == "value" else ending)


def _known(what: str, name: str | None, known: Iterable[str]) -> None:
    names = list(known)
    if name is not None and name not in names:
        close = [f"did you mean {c!r}?" for c in difflib.get_close_matches(str(name).casefold(), names, n=1)]
        listed = (
            [f"{'Use' if close else 'use'} {', '.join(names[:-1])} or {names[-1]}"]
            if not close or len(names) <= FEW
            else []
        )
        raise UsageError(f"no {what} {name!r}; {' '.join(close + listed)}")
