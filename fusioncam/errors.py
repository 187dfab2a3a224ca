"""Errors a user can cause. Each message is one line: what is wrong, then what to do."""

import json
import re
import sys
from collections.abc import Sequence

# How NumPy, OpenCV, onnxruntime, C++ and CUDA say that there is no memory left.
_NO_MEMORY = re.compile(
    r"(?:failed|unable) to allocate[^\n;']*|(?:std::)?bad_alloc|out of memory|insufficient memory|"
    r"CUDA failure 2\b[^\n;]*|CU\w+_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)
LESS_MEMORY = "use a smaller chunk, budget or picture, or free some memory"


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's text that says something; a heading goes with the line after it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])


class FusionCamError(Exception):
    """Base of every error this package raises on purpose; the command line exits with `exit_status`."""

    exit_status = 1

    @classmethod
    def kind_name(cls) -> str:
        """Return the kind of the error as JSON names it: `not_finite` for a NotFiniteError."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__.removesuffix("Error")).lower()


class UsageError(FusionCamError):
    """A request that cannot be met: an unknown layer, a class out of range, clashing options."""

    exit_status = 2


class NothingDetectedError(UsageError):
    """A picture in which a detector finds nothing of what is asked for, above the threshold."""


class DeadlineTooShortError(UsageError):
    """A budget of time that is below the least that an explanation takes on this machine, as busy as it is now."""


class ModelError(FusionCamError):
    """A source model that cannot be read, or is none that this package can handle."""


class UnsupportedOperatorError(ModelError):
    """An operator without a gradient rule between the layer and the logits.

    Attributes:
        operator: Its name.
    """

    def __init__(self, message: str, operator: str = "") -> None:
        """Keep the name of the operator beside the message."""
        super().__init__(message)
        self.operator = operator


class BundleError(FusionCamError):
    """A bundle that is missing, incomplete, changed since it was written, or of another schema."""


class ImageError(FusionCamError):
    """A picture that cannot be read, or an array of the wrong shape, type or content."""


class NotFiniteError(FusionCamError):
    """NaN or infinity from the model, for a picture."""


class ProviderError(FusionCamError):
    """An execution provider on which onnxruntime cannot run."""


class GraphRefusedError(ProviderError):
    """A graph that a provider cannot take, not even with the CPU's help."""


class OutputError(FusionCamError):
    """A result that cannot be written to its place.

    Attributes:
        only_name: Whether the name alone is at fault, so that results of other names can be written.
    """

    def __init__(self, message: str, only_name: bool = False) -> None:
        super().__init__(message)
        self.only_name = only_name


class DeviceError(FusionCamError):
    """A GPU that cannot do its work: no device, no launcher, not enough memory, no kernels for it."""


class OutOfMemoryError(FusionCamError, MemoryError):
    """A lack of memory for a request."""


class LibraryError(FusionCamError, ImportError):
    """A Python package or shared library that is missing, too old, or cannot be loaded."""


class BusyError(FusionCamError):
    """A service whose queue is full.

    Attributes:
        retry_after: Seconds after which asking again makes sense.
    """

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineError(FusionCamError):
    """A request that took longer than its time limit."""


def out_of_memory(error: BaseException, remedy: str = LESS_MEMORY) -> OutOfMemoryError | None:
    """Return the error to raise where `error`, of any library, says that memory ran out; else None.

    Args:
        error: The error that was caught.
        remedy: Advice, for the message.
    """
    if isinstance(error, OutOfMemoryError):
        return error
    match = _NO_MEMORY.search(str(error))
    if match is None and not isinstance(error, MemoryError):
        return None
    detail = f" ({match.group().strip()})" if match and match.group().lower() != "out of memory" else ""
    return OutOfMemoryError(f"out of memory{detail}; {remedy}")


OTHER_KINDS = {
    "crash": "A native library that crashed.",
    "interrupted": "Ctrl-C, or a signal that ends the command.",
    "killed": "A process that another one killed, most likely the system for lack of memory.",
    "memory_limit": "A command that took more than `--memory-limit`.",
    "package": "A Python package or shared library that cannot be loaded.",
    "system": "An error of the operating system, such as a full disk.",
    "time_limit": "A command that took longer than `--time-limit`.",
    "unexpected": "A bug of fusioncam.",
}
"""Kinds of failures, as JSON names them, that no class of ours is for; and what they are."""


def error_json(kind: str, message: str) -> dict[str, dict[str, str]]:
    """Return an error as JSON has it.

    Args:
        kind: `FusionCamError.kind_name`, or one of `OTHER_KINDS`.
        message: One line: what is wrong, what to do.
    """
    return {"error": {"kind": kind, "message": message}}


def print_error_json(arguments: Sequence[str], kind: str, message: str) -> None:
    """Print an error to standard output, where the command line was told to print JSON.

    Standard error gets its line anyway. So a program finds JSON on standard output whatever happens, and a log has the
    line.

    Args:
        arguments: Of the command line: a usage error comes before they are parsed.
        kind: See `error_json`.
        message: See `error_json`.
    """
    lines = "--jsonl" in arguments
    if (lines or "--json" in arguments) and sys.stdout is not None:
        text = json.dumps(error_json(kind, message), indent=None if lines else 2, ensure_ascii=False)
        sys.stdout.write(text.encode("utf-8", "backslashreplace").decode() + "\n")
        sys.stdout.flush()
