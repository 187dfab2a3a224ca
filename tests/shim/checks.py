"""A kernel held against its definition, with nothing left to chance that a launch leaves open."""

import ctypes
import importlib.util
from itertools import starmap
from pathlib import Path

import numpy as np

from fusioncam.kernels.device import DeviceArray

# Where an array lies: right behind a page that must not be touched, right before one, or (either the inputs or the
# outputs) aligned to no more than an element. What is there before: NaN, or -4e8.
PLACES = {"start": 0xFF, "end": 0xCD, "odd": 0xFF}
HALF = 2.0**-11  # relative error of rounding to float16

_spec = importlib.util.spec_from_file_location("kernel_samples", Path(__file__).with_name("samples.py"))
_samples = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_samples)
SAMPLES = _samples.SAMPLES


def check(device, spec, arguments, seed):
    """Run the kernel on one sample, in every place and each time in another order.

    Raises:
        AssertionError: It is not as its spec says; the text begins with the kernel's name.
    """
    made = {}
    for i, place in enumerate(PLACES):
        try:
            made[place] = launch(device, spec, arguments, place, 3 * seed + i)
        except AssertionError as error:
            raise AssertionError(f"{error}, arrays at {place}, {describe(arguments)}") from error
    wanted = spec.reference(**arguments)
    for name, found, right in zip(spec.outputs, made["start"], wanted, strict=True):
        problem = difference(spec, found, np.asarray(right))
        assert problem is None, f"{spec.name}: {name} differs from the reference {problem}, {describe(arguments)}"
    for place in PLACES:
        for name, one, other in zip(spec.outputs, made["start"], made[place], strict=True):
            same = one.tobytes() == other.tobytes()
            assert same, f"{spec.name}: {name} depends on place or order ({place}), {describe(arguments)}"


def check_all(device, spec, seed):
    """`check` with all samples of the kernel."""
    for i, arguments in enumerate(SAMPLES[spec.name](np.random.default_rng(seed))):
        check(device, spec, arguments, seed=i)


def launch(device, spec, arguments, place, seed):
    """What the kernel writes: inputs cannot be written meanwhile, outputs hold what no one could take for a result."""
    sizes = spec.bind(arguments)
    arrays = {}
    for name, p in spec.arrays.items():
        odd = place == "odd" and p.out == bool(seed % 2)
        arrays[name] = put(device, p, spec.shape(name, sizes), place, odd)
        if name in arguments:
            source = np.ascontiguousarray(arguments[name])
            ctypes.memmove(arrays[name].pointer, source.ctypes.data, source.nbytes)
        arrays[name].owner.protect(write=p.out)
    device.watch()
    for name, p in spec.outputs.items():
        device.watch(arrays[name].owner, np.dtype(p.dtype).itemsize)
    device.seed = seed
    try:
        spec(device, device.stream(), **{**arguments, **arrays})
    except AssertionError as error:
        touched = getattr(error, "address", None)
        where = [name for name, array in arrays.items() if touched is not None and touched in array.owner.pages]
        raise AssertionError(f"{error}{f' at {where[0]}' if where else ''}") from error
    finally:
        device.watch()
    return [copy(arrays[name]) for name in spec.outputs]


def put(device, parameter, shape, place, odd):
    """An array in memory of its own, between pages that must not be touched."""
    kind = np.dtype(parameter.dtype)
    nbytes = int(np.prod(shape)) * kind.itemsize
    memory = device.allocate(nbytes, None if place == "start" else kind.itemsize * odd)
    memory.fill(PLACES[place])
    return DeviceArray(memory, memory.pointer, shape, kind)


def copy(array):
    """The array in NumPy's memory."""
    return np.frombuffer(ctypes.string_at(array.pointer, array.nbytes), array.dtype).reshape(array.shape)


def difference(spec, found, wanted):
    """Where an output is not what the reference says, or None."""
    if found.shape != wanted.shape:
        return f"in shape: {found.shape}, not {wanted.shape}"
    exact, right = found.astype(np.float64), wanted.astype(np.float64)
    allowed = spec.tolerance
    if found.dtype == np.float16:  # half a unit in the last place, beside what float32 is allowed
        allowed = np.minimum(allowed, 4e-6 + HALF * abs(right))
    with np.errstate(invalid="ignore"):
        off = abs(exact - right)
    off[(exact == right) | (np.isnan(exact) & np.isnan(right))] = 0
    wrong = ~(off <= allowed)
    if wrong.any():
        at = np.unravel_index(np.argmax(wrong), wrong.shape)
        return f"at {tuple(map(int, at))}: {found[at]}, not {wanted[at]} ({wrong.sum()} of {wrong.size})"
    # What is allowed for values that lie on the edge between two whole numbers must stay the exception.
    if found.dtype.kind in "iu" and np.count_nonzero(off) > max(1, found.size / 10):
        return f"at {np.count_nonzero(off)} of {off.size}"
    return None


def describe(arguments):
    """The sample in words."""
    return ", ".join(starmap(lambda k, v: f"{k}: {v.shape if isinstance(v, np.ndarray) else v}", arguments.items()))
