"""Errors a user can cause. Each message is one line: what is wrong, then what to do."""

import re

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


class UsageError(FusionCamError):
    """A request that cannot be met as it was put: an unknown layer, a class out of range, clashing options."""

    exit_status = 2


class ModelError(FusionCamError):
    """The source model cannot be read or is not an image classifier this package can handle."""


class UnsupportedOperatorError(ModelError):
    """An operator between the layer and the logits has no gradient rule."""


class BundleError(FusionCamError):
    """A bundle is missing, incomplete, changed since it was written, or of another schema."""


class ImageError(FusionCamError):
    """A picture cannot be read, or an array has the wrong shape, type or content."""


class NotFiniteError(FusionCamError):
    """The model gives NaN or infinity for a picture."""


class ProviderError(FusionCamError):
    """onnxruntime cannot run on the execution provider that was asked for."""


class OutputError(FusionCamError):
    """A result cannot be written where it was asked for."""


class DeviceError(FusionCamError):
    """The GPU cannot do what it was asked for: no device, no launcher, not enough memory, no kernels for it."""


class OutOfMemoryError(FusionCamError, MemoryError):
    """There is not enough memory for what was asked for."""


class BusyError(FusionCamError):
    """The service has as much to do as it takes.

    Attributes:
        retry_after: Seconds after which asking again makes sense.
    """

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineError(FusionCamError):
    """A request took longer than it was given."""


def out_of_memory(error: BaseException, remedy: str = LESS_MEMORY) -> OutOfMemoryError | None:
    """Return the error to raise where `error`, of any library's, says that memory ran out; else None.

    Args:
        error: What was caught.
        remedy: What to do about it.
    """
    if isinstance(error, OutOfMemoryError):
        return error
    found = _NO_MEMORY.search(str(error))
    if found is None and not isinstance(error, MemoryError):
        return None
    detail = f" ({found.group().strip()})" if found and found.group().lower() != "out of memory" else ""
    return OutOfMemoryError(f"out of memory{detail}; {remedy}")
