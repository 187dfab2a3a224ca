"""The CUDA kernels on the CPU: compiled by the C++ compiler, and a device that runs them."""

import ctypes
import mmap
import re
import subprocess
import time
import weakref
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import count
from pathlib import Path

import numpy as np

from fusioncam.errors import DeviceError
from fusioncam.kernels.specs import SPECS

HERE = Path(__file__).parent
CUDA = HERE.parents[1] / "kernels" / "cuda"
COMMON = ("-std=c++17", "-fPIC")
# A trap where C++ leaves the result open (indices, alignment, overflow): the GPU may make something else of it.
STRICT = ("-O1", "-ffp-contract=off", "-fsanitize=undefined", "-fsanitize-undefined-trap-on-error")
RACES = ("-fsanitize=thread",)
CONTRACTED = ("-O2", "-mfma", "-ffp-contract=fast")  # a * b + c rounded once, as nvcc does it
TYPES = {np.uintp: "p", np.int32: "i", np.float32: "f", np.float64: "d"}
MOST_BLOCKS = (2**31 - 1, 65535, 65535)


class Compiler:
    """Makes shared libraries of kernels, in a folder; the shim itself is compiled but once."""

    def __init__(self, folder):
        self._folder = folder
        self._shim = [self._object(HERE / f"{name}.cpp", folder / f"{name}.o", "-O2") for name in ("shim", "races")]

    def library(self, name, source=CUDA, flags=STRICT, only=None):
        """The library of the kernels in the folder `source`, or of one of them."""
        file = "fusioncam.cu" if only is None else file_of(only, source)
        names = "".join(f"SHIM_KERNEL({kernel})\n" for kernel in ([only] if only else SPECS))
        unit = self._folder / f"{name}.cpp"
        unit.write_text(f'#include "{file}"\n{names}')
        options = ("-include", HERE / "cuda.hpp", "-I", source, *flags)
        kernels = self._object(unit, self._folder / f"{name}.o", *options)
        library = self._folder / f"{name}.so"
        self._run("-shared", "-Wl,-z,now,-Bsymbolic,--no-undefined", *self._shim, kernels, "-o", library)
        return library

    def _object(self, unit, target, *options):
        self._run("-c", *options, unit, "-o", target)
        return target

    @staticmethod
    def _run(*arguments):
        done = subprocess.run(["g++", *COMMON, *map(str, arguments)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def file_of(kernel, source):
    """Name of the file that defines a kernel, by itself or by a macro."""
    (file,) = [f.name for f in source.glob("*.cu") if re.search(rf"\b{kernel}\(\n|\({kernel},", f.read_text())]
    return file


class KernelFault(AssertionError):  # noqa: N818
    """A kernel did what it must not do; `address` is that of the memory it touched."""

    def __init__(self, text, address):
        super().__init__(text)
        self.address = address


def _libc(name, *types, result=ctypes.c_int):
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    function.argtypes, function.restype = types, result
    return function


WORD, POINTER = ctypes.c_size_t, ctypes.c_void_p
_mmap = _libc("mmap", POINTER, WORD, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long, result=POINTER)
_munmap = _libc("munmap", POINTER, WORD)
_mprotect = _libc("mprotect", POINTER, WORD, ctypes.c_int)
FRESH = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE: what is not touched takes no memory


class Guarded:
    """Memory between two pages that nobody may touch.

    Args:
        nbytes: Its size.
        gap: How far before the second of them it ends; where not given, it begins right behind the first.
    """

    def __init__(self, nbytes, gap=None):
        page = mmap.PAGESIZE
        self.nbytes, self._inner = nbytes, -(-(nbytes + (gap or 0)) // page) * page
        base = _mmap(None, self._inner + 2 * page, 0, FRESH, -1, 0)
        if base in (None, ctypes.c_void_p(-1).value):
            raise DeviceError(f"there are no {nbytes} bytes")
        self._first = base + page
        self.pages = range(base, self._first + self._inner + page)
        weakref.finalize(self, _munmap, base, self._inner + 2 * page).atexit = False
        self.protect(write=True)
        self.pointer = self._first if gap is None else self._first + self._inner - nbytes - gap

    def protect(self, write):
        """Allow writing, or not."""
        assert _mprotect(self._first, self._inner, mmap.PROT_READ | (mmap.PROT_WRITE if write else 0)) == 0

    def fill(self, byte):
        """Set all of its pages to one byte."""
        ctypes.memset(self._first, byte, self._inner)

    def __contains__(self, span):
        pointer, nbytes = span
        return self.pointer <= pointer and pointer + nbytes <= self.pointer + self.nbytes


class HostDevice:
    """`fusioncam.kernels.device.Device` with the kernels on the CPU; nothing is ever late.

    What is allocated is filled with 0xFF, NaN as a float, and lies between pages that must not be touched.
    """

    name, index, memory = "host", 0, "cpu"

    def __init__(self, library):
        self._library = ctypes.CDLL(str(library))
        self._launch = self._library.shim_launch
        self._launch.restype = ctypes.c_char_p
        self._launch.argtypes = (POINTER, POINTER, POINTER, ctypes.c_uint, WORD, ctypes.c_uint64, POINTER)
        self._library.shim_watch.argtypes = (POINTER, WORD, WORD)
        self._library.shim_watch.restype = None
        self._handles, self._streams, self._events = count(1), set(), {}
        self._alive = weakref.WeakSet()
        self.seed = 0  # of the shuffles; each launch has its own
        self.launches = 0

    def entered(self):
        return nullcontext()

    def allocate(self, nbytes, gap=None):
        memory = Guarded(nbytes, gap)
        memory.fill(0xFF)
        self._alive.add(memory)
        return memory

    def watch(self, memory=None, itemsize=1):
        """Look for races in an array, too, where the kernels are compiled for it; with none, in no array any more."""
        self._library.shim_watch(memory and memory.pointer, memory.nbytes if memory else 0, itemsize)

    def pinned(self, shape, dtype):
        return np.empty(shape, dtype)

    def stream(self):
        self._streams.add(handle := next(self._handles))
        return handle

    def event(self):
        self._events[handle := next(self._handles)] = None
        return handle

    timed_event = event

    def record(self, event, stream):
        self._check(stream, event)
        self._events[event] = time.perf_counter()

    def wait(self, stream, event):
        self._check(stream, event)

    def synchronize(self, stream):
        self._check(stream)

    def wait_until(self, event):
        assert event in self._events, f"{event} is no event"

    def elapsed(self, start, end):
        return (self._events[end] - self._events[start]) * 1e3

    def upload(self, source, pointer, stream):
        self._check(stream, span=(pointer, source.nbytes))
        assert source.flags.c_contiguous
        ctypes.memmove(pointer, source.ctypes.data, source.nbytes)

    def download(self, pointer, target, stream):
        self._check(stream, span=(pointer, target.nbytes))
        assert target.flags.c_contiguous
        ctypes.memmove(target.ctypes.data, pointer, target.nbytes)

    def launch(self, kernel, grid, block, arguments: Sequence[np.generic], stream):
        self._check(stream)
        assert all(1 <= n <= most for n, most in zip(grid, MOST_BLOCKS, strict=True)), (kernel, grid)
        self.seed += 1
        self.launches += 1
        self.run(kernel, grid, block, arguments, self.seed)

    def run(self, kernel, grid, block, arguments, seed, skipped=0):
        """Run a kernel with a shuffle of one's own, without the first of its blocks.

        Raises:
            KernelFault: It did what it must not do.
        """
        types = getattr(self._library, f"types_{kernel}")
        types.restype = ctypes.c_char_p
        assert types().decode() == "".join(TYPES[type(v)] for v in arguments), f"{kernel} takes {types()}"
        values = [np.array(v) for v in arguments]
        pointers = (POINTER * len(values))(*(v.ctypes.data for v in values))
        call, address = getattr(self._library, f"call_{kernel}"), POINTER()
        shape = (ctypes.c_uint * 3)(*grid)
        problem = self._launch(ctypes.cast(call, POINTER), pointers, shape, block, skipped, seed, ctypes.byref(address))
        if problem is not None:
            raise KernelFault(f"{kernel}: {problem.decode()}", address.value)

    def _check(self, stream, event=None, span=None):
        assert stream in self._streams, f"{stream} is no stream"
        assert event is None or event in self._events, f"{event} is no event"
        assert span is None or any(span in memory for memory in self._alive), f"{span} is not in device memory"
