"""What both launchers share: memory that goes with its last reference, and a driver's errors as ours."""

import re
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from fusioncam.errors import DeviceError, FusionCamError, first_line
from fusioncam.kernels.arrays import Array
from fusioncam.kernels.device import byte_count, lengths

# What to do about an error, by what its text holds.
REMEDIES = {
    "out.of.memory|too (large|big)": "use a smaller chunk",
    "libcuda|driver library": "install the NVIDIA driver, or run on the CPU",
    "no.device|no cuda-capable": "see that nvidia-smi shows a GPU, or run on the CPU",
    # To one that knows the GPU, the kernels' format, or a function of the launcher's.
    "image|ptx|driver version|not found|failed to get cu": "update the NVIDIA driver",
}
OTHERWISE = "start the program again, or run on the CPU"


class Owned:
    """Memory of a driver; `free` is called when the last reference is gone."""

    def __init__(self, pointer: int, nbytes: int, free: Callable[[], None]) -> None:
        self.pointer, self.nbytes = pointer, nbytes
        self.finalizer = weakref.finalize(self, free)

    @property
    def __array_interface__(self) -> dict[str, object]:
        """As the bytes of a NumPy array, which then keeps it alive."""
        return {"shape": (self.nbytes,), "typestr": "|u1", "data": (self.pointer, False), "version": 3}


def host_array(shape: Sequence[int], dtype: npt.DTypeLike, allocate: Callable[[int], Owned]) -> Array:
    """An array in host memory that `allocate` gives, so many bytes of it.

    Raises:
        ValueError: It is no shape.
    """
    kind, whole = np.dtype(dtype), lengths(shape)
    nbytes = byte_count(whole, kind)
    owner = allocate(max(nbytes, 1))
    # When the program ends, threads may still use it; it then goes with the process.
    owner.finalizer.atexit = False
    return np.asarray(owner)[:nbytes].view(kind).reshape(whole)


def contiguous(array: Array) -> Array:
    """The same array.

    Raises:
        ValueError: Its elements are not one after another.
    """
    if not array.flags.c_contiguous:
        raise ValueError(f"an array of strides {array.strides} cannot be copied to or from a GPU")
    return array


@contextmanager
def reported(doing: str, *kinds: type[Exception]) -> Iterator[None]:
    """Errors of these kinds as `DeviceError`."""
    try:
        yield
    except FusionCamError:
        raise
    except kinds as error:
        raise failure(doing, error) from error


def giving(nbytes: int, what: str, *kinds: type[Exception]) -> AbstractContextManager[None]:
    """`reported` for memory, of which a number beyond C's types is more than there is, too."""
    return reported(f"give {Decimal(nbytes) / 10**6:.1f} MB of {what}", OverflowError, *kinds)


@contextmanager
def importing() -> Iterator[None]:
    """Whatever else a broken installation raises as `ImportError`."""
    try:
        yield
    except (ImportError, FusionCamError):
        raise
    except (Exception, SystemExit) as error:
        raise ImportError(f"{type(error).__name__}: {first_line(error)}") from error


def failure(doing: str, error: Exception) -> DeviceError:
    """The error that says what the GPU did not do, and what to do now."""
    text = first_line(error).rstrip(".")
    remedy = next((r for part, r in REMEDIES.items() if re.search(part, text, re.IGNORECASE)), OTHERWISE)
    return DeviceError(f"the GPU did not {doing}: {text}; {remedy}")


def check_index(index: int, count: int) -> None:
    """See that there is such a device.

    Raises:
        DeviceError: There is not.
    """
    if not 0 <= index < count:
        numbers = "only GPU 0" if count == 1 else f"GPUs 0 to {count - 1}"
        raise DeviceError(f"there is no GPU {index}: this machine has {numbers if count else 'none'}; choose another")
