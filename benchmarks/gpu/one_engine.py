"""Stage `engine`: the whole method as one TensorRT engine, built from `fusioncam.onnx`, its maps against the CPU's.

Whatever of TensorRT is installed builds and runs it: onnxruntime's TensorRT provider, the plugin of TensorRT-RTX, the
command line tools, the Python packages.
"""

import importlib
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from record import Record, spread

from fusioncam.errors import FusionCamError, ProviderError
from fusioncam.kernels.arrays import Array
from fusioncam.kernels.device import Device, empty
from fusioncam.manifest import SINGLE_GRAPH
from fusioncam.runtime.providers.table import CPU
from fusioncam.runtime.sessions.open import open_session
from gpu.lab import Lab
from gpu.maps import LARGEST, differences
from gpu.rows.passes import partitions

MAPS = ("fusion_cam", "grad_cam", "score_cam")
TOOL_SECONDS = 300
# Types are those of the graph, and no run is replayed: the number of turns of the loop is another for each picture.
TOOLS = {
    "trtexec": ("--stronglyTyped", "--noTF32"),
    "tensorrt_rtx": ("--rtxCudaGraphStrategy=disable",),
}


@dataclass(frozen=True)
class Built:
    """An engine that ran.

    Attributes:
        maps: Its maps (H, W).
        build: Seconds of building it, with the first run.
        seconds: Of further runs.
        left: Nodes that the CPU runs.
    """

    maps: Mapping[str, Array]
    build: float
    seconds: Sequence[float]
    left: int = 0


@dataclass(frozen=True)
class Work:
    """Work for an engine: the graph, its inputs by name, the GPU, a folder, and the number of runs that are timed."""

    graph: Path
    feeds: Mapping[str, Array]
    device: Device
    folder: Path
    samples: int


def by_provider(provider: str, work: Work) -> Built:
    """Through onnxruntime.

    Raises:
        FusionCamError: The provider is not there.
    """
    begun = time.perf_counter()
    session = open_session(work.graph, ["cpu" if work.device.memory == "cpu" else provider], allow_cpu=True)
    found = session.run(list(MAPS), dict(work.feeds))
    built, seconds = time.perf_counter() - begun, []
    for _ in range(work.samples):
        start = time.perf_counter()
        session.run(list(MAPS), dict(work.feeds))
        seconds.append(time.perf_counter() - start)
    left = partitions(session).get(CPU, {"nodes": 0})["nodes"]
    return Built({name: m[0] for name, m in zip(MAPS, found, strict=True)}, built, seconds, left)


def by_tool(tool: str, work: Work) -> Built:
    """By one of NVIDIA's command line tools, which take the inputs from files and write the outputs into one.

    Raises:
        ProviderError: The tool is not there.
        RuntimeError: It failed.
    """
    path = shutil.which(tool)
    if path is None:
        raise ProviderError(f"there is no {tool} on the PATH; install TensorRT, or TensorRT-RTX")
    for name, array in work.feeds.items():
        array.tofile(work.folder / f"{name}.bin")
    inputs = ",".join(f"{name}:{work.folder / name}.bin" for name in work.feeds)
    outputs, times = work.folder / f"{tool}-outputs.json", work.folder / f"{tool}-times.json"
    command = [
        path, f"--onnx={work.graph}", f"--loadInputs={inputs}", f"--exportOutput={outputs}", f"--exportTimes={times}",
        f"--iterations={work.samples}", "--duration=0", f"--device={work.device.index}", *TOOLS[tool],
    ]  # fmt: skip
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TOOL_SECONDS)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["nothing"]
        raise RuntimeError(f"{tool} refused the graph, and said: {last[0][:200]}")
    took, told = time.perf_counter() - begun, json.loads(outputs.read_text())
    size = work.feeds["image"].shape[2:]
    maps = {t["name"]: np.array(t["values"], np.float32).reshape(size) for t in told if t["name"] in MAPS}
    return Built(maps, took, [t["computeMs"] / 1e3 for t in json.loads(times.read_text())])


def by_package(package: str, work: Work) -> Built:
    """By a Python package of TensorRT's: built, and run on device memory.

    Raises:
        ProviderError: The package is not there.
        RuntimeError: It refuses the graph.
    """
    try:
        trt = importlib.import_module(package)
    except ImportError as error:
        raise ProviderError(f"there is no Python package {package}; pip install it") from error
    begun, device = time.perf_counter(), work.device
    engine = _engine(trt, work.graph)
    context = engine.create_execution_context()
    with device.entered():
        stream, arrays = device.stream(), {}
        for name in [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]:
            given, kind = work.feeds.get(name), np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
            if given is not None:
                context.set_input_shape(name, given.shape)
            arrays[name] = empty(device, tuple(context.get_tensor_shape(name)), kind)
            if given is not None:
                device.upload(np.ascontiguousarray(given, kind), arrays[name].pointer, stream)
                device.synchronize(stream)  # before the copy that may have been made goes
            context.set_tensor_address(name, arrays[name].pointer)

        def run() -> float:
            start = time.perf_counter()
            if not context.execute_async_v3(stream):
                raise RuntimeError(f"{package} did not run the engine; look at what it printed")
            device.synchronize(stream)
            return time.perf_counter() - start

        run()
        built = time.perf_counter() - begun
        maps = {name: np.empty(arrays[name].shape, np.float32) for name in MAPS}
        for name, target in maps.items():
            device.download(arrays[name].pointer, target, stream)
        device.synchronize(stream)
        return Built({name: m[0] for name, m in maps.items()}, built, [run() for _ in range(work.samples)])


def _engine(trt: Any, graph: Path) -> Any:
    """Build the engine of a graph.

    Raises:
        RuntimeError: TensorRT refuses it.
    """
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # later versions know no other networks
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        raise RuntimeError(f"{trt.__name__} cannot read the graph: {parser.get_error(0).desc()}")
    plan = builder.build_serialized_network(network, builder.create_builder_config())
    if plan is None:
        raise RuntimeError(f"{trt.__name__} built no engine; look at what it printed")
    return trt.Runtime(logger).deserialize_cuda_engine(plan)


# In the order of how little has to be installed for them.
BUILDERS: Mapping[str, Callable[[Work], Built]] = {
    "onnxruntime's TensorRT provider": partial(by_provider, "tensorrt"),
    "onnxruntime's TensorRT-RTX plugin": partial(by_provider, "tensorrt-rtx"),
    "trtexec": partial(by_tool, "trtexec"),
    "tensorrt_rtx": partial(by_tool, "tensorrt_rtx"),
    "the Python package tensorrt": partial(by_package, "tensorrt"),
    "the Python package tensorrt_rtx": partial(by_package, "tensorrt_rtx"),
}


def check(record: Record, lab: Lab, models: Sequence[str], samples: int) -> None:
    """Every builder on every model.

    Args:
        record: Gets the checks and figures.
        lab: Models.
        models: Their names, what matters first.
        samples: Timed runs.
    """
    missing: set[str] = set()
    for name in models:
        wanted, graph = lab.reference(name), lab.single(name) / SINGLE_GRAPH
        feeds = {"image": lab.input(name)[None], "class_index": np.array([wanted.class_index], np.int64)}
        for builder, build in BUILDERS.items():
            if builder in missing:
                continue
            label = f"{name}, one engine by {builder}"
            try:
                found = build(Work(graph, feeds, lab.device, lab.folder, samples))
            except FusionCamError as error:
                record.leave_out(label, error)
                missing.add(builder)
                continue
            except Exception as error:  # TensorRT's; the other builders shall be tried all the same
                record.failed(label, error)
                continue
            record.check(f"{label}: nodes left to the CPU", found.left, 0)
            for method in MAPS:
                more: dict[str, Any] = differences(found.maps[method], wanted.maps[method])
                record.check(f"{label}: {method}, largest difference", more.pop("max"), LARGEST, **more)
            record.figures.append(
                {"model": name, "engine_by": builder, "build_seconds": found.build, "seconds": spread(found.seconds)}
            )
            record.save()
