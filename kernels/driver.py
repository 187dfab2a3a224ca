"""Shared parts of the launchers: memory freed with its last reference, and a driver's errors as `DeviceError`."""

import math
import operator
import re
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from fusioncam.errors import DeviceError, FusionCamError, first_line
from fusioncam.kernels.arrays import Array

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
        """Return the memory as the bytes of a NumPy array, which then keeps it alive."""
        return {"shape": (self.nbytes,), "typestr": "|u1", "data": (self.pointer, False), "version": 3}


def lengths(shape: Sequence[int]) -> tuple[int, ...]:
    """Return a shape, or places along an axis, in Python's numbers, which never overflow.

    Raises:
        ValueError: They are not whole numbers from 0 up.
    """
    try:
        whole = tuple(map(operator.index, shape))
    except TypeError:
        whole = (-1,)
    if min(whole, default=0) < 0:
        raise ValueError(f"{shape} must be whole numbers, 0 or more")
    return whole


def byte_count(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Return the size of an array in bytes."""
    return math.prod(shape) * dtype.itemsize


def host_array(shape: Sequence[int], dtype: npt.DTypeLike, allocate: Callable[[int], Owned]) -> Array:
    """Return an array in host memory from `allocate`, which takes a number of bytes.

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
    """Return the same array, once its elements are known to lie one after another.

    Raises:
        ValueError: They do not.
    """
    if not array.flags.c_contiguous:
        raise ValueError(f"an array of strides {array.strides} cannot be copied to or from a GPU")
    return array


@contextmanager
def reported(doing: str) -> Iterator[None]:
    """Raise errors of other libraries as `DeviceError`."""
    try:
        yield
    except FusionCamError:
        raise
    except Exception as error:
        raise failure(doing, error) from error


@contextmanager
def importing() -> Iterator[None]:
    """Raise as `ImportError` whatever else a broken installation raises."""
    try:
        yield
    except (ImportError, FusionCamError):
        raise
    except (Exception, SystemExit) as error:
        raise ImportError(f"{type(error).__name__}: {first_line(error)}") from error


def failure(doing: str, error: Exception) -> DeviceError:
    """Return the error that says what the GPU did not do, and what to do now."""
    text = first_line(error).rstrip(".")
    remedy = next((r for part, r in REMEDIES.items() if re.search(part, text, re.IGNORECASE)), OTHERWISE)
    return DeviceError(f"the GPU did not {doing}: {text}; {remedy}")


def check_index(index: int, count: int) -> None:
    """Make sure that there is such a device.

    Raises:
        DeviceError: There is not.
    """
    if not 0 <= index < count:
        numbers = "only GPU 0" if count == 1 else f"GPUs 0 to {count - 1}"
        raise DeviceError(f"there is no GPU {index}: this machine has {numbers if count else 'none'}; choose another")
