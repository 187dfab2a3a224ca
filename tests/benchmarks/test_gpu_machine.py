"""The machine under the GPU benchmark: copies of memory, the name of its GPU."""

import ctypes
import types

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


def test_what_nvidia_smi_says(part, monkeypatch):
    machine = part("machine")
    monkeypatch.setattr(machine.shutil, "which", lambda name: "/bin/nvidia-smi")
    said = types.SimpleNamespace(stdout="NVIDIA H200, 580.1, 143771 MiB, 1980 MHz, 3201 MHz, 700.00 W\n")
    monkeypatch.setattr(machine.subprocess, "run", lambda *arguments, **more: said)
    assert machine.nvidia_smi(0)["driver_version"] == "580.1"
    said.stdout = "No devices were found\n"
    assert machine.nvidia_smi(0) == {}
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    assert machine.nvidia_smi(0) == {}


def test_file_names(part):
    assert part("machine").slug("NVIDIA H200") == "nvidia-h200"
    assert part("machine").slug("Tesla T4 (2)") == "tesla-t4-2"
