"""The machine: its GPU behind each launcher that is installed, the driver, the versions."""

import ctypes
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from fusioncam.errors import DeviceError, FusionCamError
from fusioncam.kernels.binary import source_digest
from fusioncam.kernels.device import LAUNCHERS, Device, open_device
from fusioncam.runtime.bench import machine

PACKAGES = (
    "fusioncam", "numpy", "torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "onnxruntime-gpu", "pycuda",
    "cuda-core", "cuda-bindings", "tensorrt-cu13", "onnxruntime-ep-nv-tensorrt-rtx-cu13", "grad-cam",
    "nvidia-cudnn-cu13",
)  # fmt: skip
ASKED = ("name", "driver_version", "memory.total", "clocks.max.sm", "clocks.max.memory", "power.limit")
L2_CACHE_SIZE, MULTIPROCESSORS = 38, 16  # of CUdevice_attribute


def open_launchers(index: int) -> tuple[dict[str, Device], dict[str, str]]:
    """The GPU behind every launcher that is installed, and why the others are not there."""
    found, missing = {}, {}
    for name in LAUNCHERS:
        try:
            found[name] = open_device(index, name)
        except FusionCamError as error:
            missing[name] = str(error)
        except Exception as error:  # a broken installation may do anything
            missing[name] = f"{type(error).__name__}: {error}"
    return found, missing


def describe(device: Device) -> dict[str, Any]:
    """Everything about the machine that a figure may depend on."""
    gpu: dict[str, Any] = {"name": device.name, "index": device.index}
    if device.memory == "cuda":
        gpu |= {"l2_bytes": attribute(device, L2_CACHE_SIZE), "multiprocessors": attribute(device, MULTIPROCESSORS)}
        gpu |= {"nvidia_smi": nvidia_smi(identities(device))}
    return {"gpu": gpu, **machine.describe()}


def versions() -> dict[str, str]:
    """Of the packages that take part, those that are installed, and of the kernels."""
    return {"kernels": source_digest()[:16], **machine.versions(PACKAGES)}


def identities(device: Device) -> list[str]:
    """Return names of the GPU for NVIDIA's tools, the best first: its UUID, as a whole or as a part, its PCI bus.

    Their numbers are not those of CUDA, which CUDA_VISIBLE_DEVICES changes, and which counts parts (MIG) as devices.
    """
    handle, raw, bus, library = ctypes.c_int(), (ctypes.c_ubyte * 16)(), ctypes.create_string_buffer(32), driver()

    def told(name: str, *arguments: Any) -> bool:
        function = getattr(library, name, None)  # older drivers lack some
        return function is not None and function(*arguments) == 0

    with device.entered():
        if not told("cuDeviceGet", ctypes.byref(handle), device.index):
            return []
        found = []
        if told("cuDeviceGetUuid_v2", ctypes.byref(raw), handle):
            found += [f"{kind}-{uuid.UUID(bytes=bytes(raw))}" for kind in ("GPU", "MIG")]
        if told("cuDeviceGetPCIBusId", bus, len(bus), handle):
            found.append(bus.value.decode())
    return found


def nvidia_smi(names: Sequence[str]) -> dict[str, str]:
    """Return what the driver's own tool says of the GPU of one of these names; nothing where it is missing.

    A part of a GPU is told as the whole, which its PCI bus names.
    """
    tool = shutil.which("nvidia-smi")
    for name in names if tool else ():
        command = [str(tool), f"--id={name}", f"--query-gpu={','.join(ASKED)}", "--format=csv,noheader"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            return {}
        told = [part.strip() for part in done.stdout.strip().split(",")]
        if done.returncode == 0 and len(told) == len(ASKED):
            return {"asked_as": name, **dict(zip(ASKED, told, strict=True))}
    return {}


def slug(name: str) -> str:
    """A device's name as part of a file's."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def driver() -> Any:
    """NVIDIA's driver itself: what no launcher's protocol has. Their stream handles are its own."""
    return ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")


def attribute(device: Device, number: int) -> int:
    """One of the driver's attributes of a device, 0 where it does not tell."""
    value, handle, library = ctypes.c_int(), ctypes.c_int(), driver()
    with device.entered():
        failed = library.cuDeviceGet(ctypes.byref(handle), device.index)
        failed = failed or library.cuDeviceGetAttribute(ctypes.byref(value), number, handle)
    return 0 if failed else value.value


def free_memory(device: Device) -> int:
    """Bytes of the device that are free, 0 where it is none."""
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    if device.memory == "cuda":
        with device.entered():
            failed = driver().cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
        if failed:
            raise DeviceError(f"the GPU does not tell its free memory: the driver says {failed}")
    return free.value


def copier(device: Device) -> Callable[[int, int, int, int], None]:
    """The device's own copy within its memory: copy(target, source, nbytes, stream), without waiting."""
    if device.memory == "cpu":
        return lambda target, source, nbytes, stream: ctypes.memmove(target, source, nbytes) and None
    function = driver().cuMemcpyDtoDAsync_v2
    function.argtypes = (ctypes.c_uint64, ctypes.c_uint64, ctypes.c_size_t, ctypes.c_void_p)

    def copy(target: int, source: int, nbytes: int, stream: int) -> None:
        status = function(target, source, nbytes, stream)
        if status:
            raise DeviceError(f"the GPU cannot copy {nbytes} bytes: the driver says {status}")

    return copy
