"""Errors a user can cause. Each message is one line: what is wrong, then what to do."""


def first_line(error: BaseException) -> str:
    """The first line of an exception's text that says something."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


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
