"""Arrays of more than 2**32 elements, where an index of 32 bits would do something else.

They take no memory: all but the sample, which lies at their end, stays untouched, and only the blocks that are at work
there are run.
"""

import ctypes
import math
import re
import shutil
from dataclasses import dataclass, field

import numpy as np
import pytest

from fusioncam.kernels.device import DeviceArray
from fusioncam.kernels.specs import SPECS

FAR = 2**32


@dataclass(frozen=True)
class Case:
    """A kernel, and the axis that is long.

    Attributes:
        kernel: Its name.
        axis: The axis.
        index: The array that says where along the axis to look; none, if the number of a block does.
        only: Sizes that the sample has.
        odd: How many entries ahead of the sample there are beyond a multiple of 256.
    """

    kernel: str
    axis: str
    index: str | None = None
    only: dict[str, int] = field(default_factory=dict)
    odd: int = 0

    def sample(self, samples):
        """Of the samples whose entries along the axis are the largest, the first; and how large they are."""
        every = samples[self.kernel](np.random.default_rng(0))
        fitting = [(self._entry(s), s) for s in every if self.only.items() <= SPECS[self.kernel].bind(s).items()]
        return max(fitting, key=lambda pair: pair[0])

    def _entry(self, arguments):
        spec = SPECS[self.kernel]
        sizes = {**spec.bind(arguments), self.axis: 1}
        return max(math.prod(spec.shape(name, sizes)) for name, p in spec.arrays.items() if self.axis in p.shape)


MASKS = ("mask_pictures_float", "mask_pictures_half")
CASES = [
    Case("normalize_maps", "K"),
    *(Case(name, "K", "channels", {"B": 9}) for name in MASKS),
    *(Case(name, "B", only={"B": 1}, odd=3) for name in MASKS),  # the last of the four that a thread makes
    Case("expand_maps", "N"),
    Case("row_means", "rows"),
    Case("weighted_sums", "N"),
    Case("weighted_sums", "P"),
    Case("score_weights", "N"),
    Case("gather_scores", "B"),
    Case("gather_scores", "K", "channels"),
    Case("read_classes", "B", "rows"),
    Case("denoise_maps", "N"),
    Case("unite_maps", "N"),
    Case("blend_maps", "N"),
    Case("overlay_map", "P"),
]


class LastBlocks:
    """A device that starts only the last blocks of a kernel."""

    def __init__(self, device, count):
        self._device, self._count = device, count

    def launch(self, kernel, grid, block, arguments, stream):
        self._device.run(kernel, grid, block, arguments, seed=1, skipped=math.prod(grid) - self._count)


def check_far(shim, checks, device, case):
    """Raises an AssertionError if the kernel does not do with the sample what it does elsewhere."""
    spec = SPECS[case.kernel]
    entry, arguments = case.sample(checks.SAMPLES)
    sizes = spec.bind(arguments)
    ahead = -(-FAR // entry // 256) * 256 + case.odd
    far = {**sizes, case.axis: ahead + sizes[case.axis]}
    arrays, views = {}, {}
    for name, p in spec.arrays.items():
        arrays[name], whole = sparse(shim, spec.shape(name, far), p.dtype)
        views[name] = whole[tuple(slice(ahead if axis == case.axis else 0, None) for axis in p.shape)]
        if name in arguments:
            views[name][...] = arguments[name]
    count = math.prod(spec.grid(sizes))
    if case.index is not None:
        places = views[case.index]
        places[places >= 0] += ahead
        count = math.prod(spec.grid(far))
    spec(LastBlocks(device, count), 0, **{**arguments, **far, **arrays})
    for name, wanted in zip(spec.outputs, spec.reference(**arguments), strict=True):
        assert checks.difference(spec, views[name], np.asarray(wanted)) is None, f"{spec.name}: {name} differs"


def sparse(shim, shape, dtype):
    """Zeros that take no memory: for the kernel, and for NumPy."""
    kind = np.dtype(dtype)
    memory = shim.Guarded(math.prod(shape) * kind.itemsize)
    data = (ctypes.c_char * memory.nbytes).from_address(memory.pointer)
    return DeviceArray(memory, memory.pointer, shape, kind), np.frombuffer(data, kind).reshape(shape)


@pytest.fixture(scope="module")
def narrow(shim, compiler, tmp_path_factory):
    """A device whose kernels index with 32 bits."""
    source = shutil.copytree(shim.CUDA, tmp_path_factory.mktemp("narrow") / "cuda")
    for file in source.glob("*.cu"):
        file.write_text(re.sub(r"\bsize_t(\(| plane| at| start)", r"int\1", file.read_text()))
    return shim.HostDevice(compiler.library("narrow", source))


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.kernel}-{c.axis}")
def test_the_kernel_reaches_the_end_of_long_arrays(shim, checks, host_device, case):
    check_far(shim, checks, host_device, case)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.kernel}-{c.axis}")
def test_a_kernel_that_does_not_is_found(shim, checks, narrow, case):
    with pytest.raises(AssertionError, match=case.kernel):
        check_far(shim, checks, narrow, case)


def test_every_kernel_is_tried():
    assert {case.kernel for case in CASES} == set(SPECS)
