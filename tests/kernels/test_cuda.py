"""The CUDA kernels, unchanged, on the CPU: held against their specs on every sample."""

from pathlib import Path

import numpy as np
import pytest

from fusioncam.kernels.device import empty
from fusioncam.kernels.specs import SPECS

HALVES = np.arange(0x7C00, dtype=np.uint16).view(np.float16)  # all that are finite and not negative


@pytest.fixture(scope="session")
def strict(shim, compiler):
    """A device that stops at races and at what C++ leaves undefined."""
    return shim.HostDevice(compiler.library("strict", flags=(*shim.STRICT, *shim.RACES)))


@pytest.fixture(scope="session")
def contracted(shim, compiler):
    """A device that rounds a product and a sum once, as GPUs do."""
    if "fma" not in Path("/proc/cpuinfo").read_text().split():
        pytest.skip("this processor has no fused multiply-add")
    return shim.HostDevice(compiler.library("contracted", flags=shim.CONTRACTED))


@pytest.mark.parametrize("name", SPECS)
def test_the_kernel_is_its_reference(strict, checks, name):
    checks.check_all(strict, SPECS[name], seed=0)


@pytest.mark.parametrize("name", SPECS)
def test_the_kernel_is_its_reference_where_products_are_not_rounded(contracted, checks, name):
    checks.check_all(contracted, SPECS[name], seed=1)


@pytest.mark.parametrize("sign", [1, -1])
def test_float16_is_rounded_as_numpy_does(host_device, sign):
    values = HALVES.astype(np.float32)
    following = np.append(values[1:], np.float32(65536))  # rounds like the half that float16 no longer has
    middle = (values + following) / 2  # exact in float32
    rows = [np.nextafter(middle, np.float32(0)), middle, np.nextafter(middle, np.float32(np.inf))]
    special = np.array([0, np.inf, np.nan, 1e-45, 1e30, 65504, 65519, 65520], np.float32)
    image = sign * np.stack([np.resize(np.append(special, row), (249, 128)) for row in rows])

    found = _mask_with_ones(host_device, image)
    with np.errstate(over="ignore"):
        wanted = image.astype(np.float16)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(wanted))


def _mask_with_ones(device, image):
    """What mask_pictures_half makes of a picture where the mask is one: the picture, rounded."""
    height, width = image.shape[1:]
    given = {
        "maps": np.ones((1, height, width), np.float32), "channels": np.zeros(1, np.int32), "image": image
    }  # fmt: skip
    stream, out = device.stream(), empty(device, (1, *image.shape), np.float16)
    arrays = {name: empty(device, array.shape, array.dtype) for name, array in given.items()}
    for name, array in given.items():
        device.upload(array, arrays[name].pointer, stream)
    SPECS["mask_pictures_half"](device, stream, **arrays, out=out)
    found = np.empty(out.shape, out.dtype)
    device.download(out.pointer, found, stream)
    return found[0]
