"""What the scenarios share: the driver that is none, arrays on the device, kernels held against their references."""

import ctypes
import importlib.util
import threading
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from fusioncam.errors import DeviceError
from fusioncam.kernels.device import empty
from fusioncam.kernels.specs import SPECS

LIMIT = 50_000_000  # bytes of device memory, as the tests set it


def driver():
    """The driver that is none, past the launcher."""
    library = ctypes.CDLL("libcuda.so.1")
    library.fake_mistakes.restype = ctypes.c_char_p
    library.fake_memory_in_use.restype = library.fake_pinned_in_use.restype = ctypes.c_size_t
    return library


def refused(call, *parts, kind=DeviceError):
    """See that a call fails as it should: with one line that holds all these parts."""
    with pytest.raises(kind) as info:
        call()
    text = str(info.value)
    assert all(part in text for part in parts), text
    assert "\n" not in text, text
    assert kind is not DeviceError or ";" in text, text


def put(device, stream, array):
    """A copy of an array on the device."""
    made = empty(device, array.shape, array.dtype)
    device.upload(array, made.pointer, stream)
    return made


def get(device, stream, array):
    """A copy of an array of the device's, once its stream got there."""
    host = device.pinned(array.shape, array.dtype)
    device.download(array.pointer, host, stream)
    device.synchronize(stream)
    return host


def run(device, stream, spec, arguments):
    """What a kernel writes."""
    sizes = spec.bind(arguments)
    host = {n: np.ascontiguousarray(arguments[n]) for n in spec.arrays if n in arguments}
    arrays = {n: empty(device, spec.shape(n, sizes), p.dtype) for n, p in spec.arrays.items()}
    for name, array in host.items():
        device.upload(array, arrays[name].pointer, stream)
    spec(device, stream, **{**arguments, **arrays})
    return [get(device, stream, arrays[name]) for name in spec.outputs]


def hold(device, stream, names, samples=2):
    """Hold kernels against their references."""
    path = Path(__file__).parents[2] / "shim" / "checks.py"
    found = importlib.util.spec_from_file_location("checks", path)
    checks = importlib.util.module_from_spec(found)
    found.loader.exec_module(checks)
    for spec in map(SPECS.get, names):
        for arguments in islice(checks.SAMPLES[spec.name](np.random.default_rng(0)), samples):
            for made, right in zip(run(device, stream, spec, arguments), spec.reference(**arguments), strict=True):
                problem = checks.difference(spec, made, np.asarray(right))
                assert problem is None, f"{spec.name} differs {problem}"


def elsewhere(call):
    """Call on another thread."""
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
