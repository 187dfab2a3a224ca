"""The columns of the table of providers, and what a graph's use says to them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Options = dict[str, Any]
Provider = str | tuple[str, Options]


@dataclass(frozen=True)
class Use:
    """The use of a graph, from which options of providers follow.

    Attributes:
        shapes: The largest shape of each input, such as {"image": (64, 3, 224, 224), "class_index": (64,)}; runs may
            have a smaller batch.
        half: Whether the graph computes in float16.
        int8: Whether the graph computes in 8 bits.
        cache: Folder for TensorRT's engines and timings; without one, every start builds them anew.
        device: Number of the GPU.
        stream: Handle of the CUDA stream for all work; 0, the default stream, counts as none.
        capture: Whether CUDA's provider captures runs into CUDA graphs, one for each set of buffers.
    """

    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    half: bool = False
    int8: bool = False
    cache: Path | None = None
    device: int = 0
    stream: int | None = None
    capture: bool = False


@dataclass(frozen=True)
class PluginUse:
    """The library and the device from which options of a plugin follow.

    Attributes:
        library: The plugin's library.
        kind: The device: `NPU`, `GPU` or `CPU`.
    """

    library: Path
    kind: str


@dataclass(frozen=True)
class Plugin:
    """A provider that comes in a library of its own, which onnxruntime loads.

    Attributes:
        module: Python module of its wheel, with `get_library_path()`; None where the user names the library.
        kinds: Kinds of devices it may run on, the best one first; a user's option `device_type` takes another one.
        device: What it needs and this machine lacks, where it offers no device.
        least: The oldest onnxruntime that loads it.
        defaults: Options for a device.
        library: The library; by default the one that `module` names.
    """

    module: str | None
    kinds: tuple[str, ...] = ("NPU", "GPU", "CPU")
    device: str = "a device that it supports"
    least: str = "1.24"
    defaults: Callable[[PluginUse], Options] = lambda use: {}
    library: Path | None = None


@dataclass(frozen=True)
class ProviderSpec:
    """One row of the table.

    Attributes:
        short: The name for users.
        name: onnxruntime's name.
        install: The way to get it where it is missing, or where a failure names no cause.
        build: The way to a build of onnxruntime that has it; plugins need none.
        plugin: How it is loaded, or None for a provider that is a part of onnxruntime.
        defaults: Options for a graph; None as a value leaves an option to onnxruntime.
        chunk: Masked pictures per run; None where a measurement decides.
        fixed: Whether it wants a fixed size for every axis: then free axes of a graph get one.
        kernels: Whether our CUDA kernels share its memory and its stream.
        int8: Which int8 graphs it takes: any, those whose zero points are zero, or none.
        leaves: Operators of shape computations, which onnxruntime itself keeps on the CPU although the provider has
            them: a copy to its device costs more.
        compared: Whether a graph's results for one picture are held against the CPU's when it is opened.
    """

    short: str
    name: str
    install: str = "install what it needs"
    build: str = "install a build that has it"
    plugin: Plugin | None = None
    defaults: Callable[[Use], Options] | None = None
    chunk: int | None = None
    fixed: bool = False
    kernels: bool = False
    int8: Literal["any", "symmetric", "none"] = "any"
    leaves: frozenset[str] = frozenset()
    compared: bool = True
