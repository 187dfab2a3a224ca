"""The launcher through PyCUDA."""

import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from threading import get_ident
from typing import Any

import numpy as np

from fusioncam.errors import DeviceError
from fusioncam.kernels.arrays import Array
from fusioncam.kernels.binary import load_kernels
from fusioncam.kernels.device import Device, Grid
from fusioncam.kernels.driver import check_index, failure, importing, reported


def open_device(index: int) -> Device:
    """Return the GPU of that number.

    Raises:
        ImportError: PyCUDA is not installed, or not as this machine needs it.
        DeviceError: There is no driver, no such GPU, or it cannot run the kernels.
    """
    cuda = _imported()
    with reported("start"):
        cuda.init()
        check_index(index, cuda.Device.count())
        return PyCudaDevice(cuda, index)


def _imported() -> Any:
    with importing(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it warns of before it fails, the error says, too
        try:
            import pycuda.driver as cuda
        except ImportError as error:
            if "libcuda" in str(error):
                raise failure("start", error) from error
            raise
    return cuda


@cache
def _primary(cuda: Any, index: int) -> Any:
    """Return the context, kept as long as the process: others use it, and PyCUDA releases it in one thread only."""
    context = cuda.Device(index).retain_primary_context()
    # Its destructor alone would detach it as if it were not a primary context, and complain.
    weakref.finalize(context, context.detach)
    return context


@contextmanager
def _entered(context: Any) -> Iterator[None]:
    with reported("enter its context"):
        context.push()
    thread = get_ident()
    try:
        yield
    finally:
        if get_ident() == thread:  # a generator given up is ended by any thread, whose own context stays
            context.pop()


class PyCudaDevice(Device):
    """A GPU through PyCUDA."""

    def __init__(self, cuda: Any, index: int) -> None:
        device, self._cuda = cuda.Device(index), cuda
        super().__init__(str(device.name()), index, partial(_entered, _primary(cuda, index)))
        with self.entered():
            self._library.append(load_kernels(device.compute_capability(), cuda.module_from_buffer))

    # Memory is freed by name: PyCUDA's own way frees nothing on another thread than the one that retained the context.
    def _allocate(self, nbytes: int) -> tuple[int, Callable[[], object]]:
        memory = self._cuda.mem_alloc(nbytes)
        return int(memory), memory.free

    def _allocate_pinned(self, nbytes: int) -> tuple[int, Callable[[], object]]:
        array = self._cuda.pagelocked_empty(nbytes, np.uint8)
        return array.ctypes.data, array.base.free

    def _new_stream(self) -> Any:
        return self._cuda.Stream(1)  # CU_STREAM_NON_BLOCKING

    def _foreign_stream(self, handle: int) -> Any:
        raise DeviceError("PyCUDA cannot use another library's stream; leave it out, or uninstall pycuda")

    def _new_event(self, timed: bool) -> Any:
        flags = self._cuda.event_flags
        return self._cuda.Event(flags.DEFAULT if timed else flags.DISABLE_TIMING | flags.BLOCKING_SYNC)

    def _record(self, event: int, stream: int) -> None:
        self._events[event].record(self._stream(stream))

    def _wait(self, stream: int, event: int) -> None:
        self._stream(stream).wait_for_event(self._events[event])

    def _synchronize(self, stream: int) -> None:
        self._stream(stream).synchronize()

    def _wait_until(self, event: int) -> None:
        self._events[event].synchronize()

    def _elapsed(self, start: int, end: int) -> Any:
        return self._events[end].time_since(self._events[start])

    def _upload(self, source: Array, pointer: int, stream: int) -> None:
        self._cuda.memcpy_htod_async(pointer, source, self._stream(stream))

    def _download(self, pointer: int, target: Array, stream: int) -> None:
        self._cuda.memcpy_dtoh_async(target, pointer, self._stream(stream))

    def _kernel(self, name: str) -> Any:
        return self._library[0].get_function(name)

    def _launch(self, kernel: str, grid: Grid, block: int, arguments: Sequence[np.generic], stream: int) -> None:
        self._kernels[kernel](*arguments, grid=grid, block=(block, 1, 1), stream=self._stream(stream))
