"""The machine under the GPU benchmark: copies of memory, the name of its GPU."""

import ctypes
import types
from contextlib import nullcontext

import pytest

from fusioncam.errors import DeviceError


def test_the_drivers_copy(part, monkeypatch):
    calls, status = [], [0]

    def function(*arguments):
        calls.append(arguments)
        return status[0]

    monkeypatch.setattr(part("machine"), "driver", lambda: types.SimpleNamespace(cuMemcpyDtoDAsync_v2=function))
    copy = part("machine").copier(types.SimpleNamespace(memory="cuda"))
    copy(1, 2, 3, 4)
    assert calls == [(1, 2, 3, 4)]
    assert len(function.argtypes) == 4
    status[0] = 700
    with pytest.raises(DeviceError, match=r"cannot copy 3 bytes.*700"):
        copy(1, 2, 3, 4)


def test_the_copy_on_the_host_copies(part, host_device):
    source, target = (host_device.allocate(8) for _ in range(2))
    source.fill(7)
    part("machine").copier(host_device)(target.pointer, source.pointer, 8, host_device.stream())
    assert ctypes.string_at(target.pointer, 8) == bytes([7] * 8)


class Driver:
    """The part of the driver that tells identities; `refused` names functions that fail."""

    def __init__(self, refused=()):
        self.refused = refused

    def cuDeviceGet(self, handle, index):  # noqa: N802
        handle._obj.value = index + 40
        return 100 if "cuDeviceGet" in self.refused else 0

    def cuDeviceGetUuid_v2(self, raw, handle):  # noqa: N802
        assert handle.value == 43
        raw._obj[:] = range(16)
        return 100 if "cuDeviceGetUuid_v2" in self.refused else 0

    def cuDeviceGetPCIBusId(self, text, length, handle):  # noqa: N802
        assert (length, handle.value) == (32, 43)
        text.value = b"0000:65:00.0"
        return 100 if "cuDeviceGetPCIBusId" in self.refused else 0


UUID = "00010203-0405-0607-0809-0a0b0c0d0e0f"


@pytest.mark.parametrize(
    ("refused", "names"),
    [
        ((), [f"GPU-{UUID}", f"MIG-{UUID}", "0000:65:00.0"]),
        (("cuDeviceGetUuid_v2",), ["0000:65:00.0"]),
        (("cuDeviceGet",), []),
    ],
)
def test_a_gpu_is_known_by_its_uuid_and_not_by_its_number(part, monkeypatch, refused, names):
    monkeypatch.setattr(part("machine"), "driver", lambda: Driver(refused))
    assert part("machine").identities(types.SimpleNamespace(index=3, entered=nullcontext)) == names


TOLD = "NVIDIA H200, 580.1, 143771 MiB, 1980 MHz, 3201 MHz, 700.00 W\n"


def test_what_nvidia_smi_says(part, monkeypatch):
    machine, asked = part("machine"), []

    def tool(command, **more):
        asked.append(command[1])
        known = command[1] == "--id=0000:65:00.0"
        return types.SimpleNamespace(stdout=TOLD if known else "No devices were found\n", returncode=0 if known else 6)

    monkeypatch.setattr(machine.shutil, "which", lambda name: "/bin/nvidia-smi")
    monkeypatch.setattr(machine.subprocess, "run", tool)
    told = machine.nvidia_smi([f"GPU-{UUID}", f"MIG-{UUID}", "0000:65:00.0", "never asked"])
    assert (told["driver_version"], told["asked_as"]) == ("580.1", "0000:65:00.0")
    assert asked == [f"--id=GPU-{UUID}", f"--id=MIG-{UUID}", "--id=0000:65:00.0"]
    assert machine.nvidia_smi([f"GPU-{UUID}"]) == machine.nvidia_smi([]) == {}
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    assert machine.nvidia_smi(["0000:65:00.0"]) == {}


def test_a_driver_that_lacks_a_function_tells_what_it_can(part, monkeypatch):
    old = types.SimpleNamespace(cuDeviceGet=lambda handle, index: 0)
    monkeypatch.setattr(part("machine"), "driver", lambda: old)
    assert part("machine").identities(types.SimpleNamespace(index=0, entered=nullcontext)) == []


def test_file_names(part):
    assert part("machine").slug("NVIDIA H200") == "nvidia-h200"
    assert part("machine").slug("Tesla T4 (2)") == "tesla-t4-2"
