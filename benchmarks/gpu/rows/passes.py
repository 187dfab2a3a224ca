"""Runs of a score graph on device memory, timed by events, with nothing of the engine around them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from record import spread

from fusioncam.errors import ProviderError
from fusioncam.kernels.arrays import Array
from fusioncam.kernels.device import DeviceArray, empty
from fusioncam.manifest import SCORE_GRAPH
from fusioncam.quirks import crashing_optimizers
from fusioncam.runtime.engine.device.run import NO_GRAPH, WARM_UP, run_options
from fusioncam.runtime.providers.spec import Provider, Use
from fusioncam.runtime.providers.table import CPU, CUDA
from fusioncam.runtime.sessions.open import captures, open_session
from gpu.lab import Lab

SEED = 4


@dataclass(frozen=True)
class Setting:
    """Model and sizes that a row measures with.

    Attributes:
        name: The model.
        chunk: Pictures per run.
        samples: Of every time.
    """

    name: str
    chunk: int
    samples: int


class Passes:
    """The score graph of a model, with pictures of noise on the device; use it within the device's context.

    Args:
        lab: Has the bundle and the device.
        name: The model.
        precision: Of the bundle.
        most: Most pictures per run.
        options: Of the provider, over fusioncam's own.
        provider: onnxruntime's name; in a dry run it is the CPU's.
        capture: Whether runs are captured into CUDA graphs.
        shapes: See `Use`.

    Raises:
        ProviderError: This machine lacks the provider.
    """

    def __init__(
        self,
        lab: Lab,
        name: str,
        precision: str,
        most: int,
        options: Mapping[str, str] | None = None,
        provider: str = CUDA,
        capture: bool = False,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        device, (folder, manifest) = lab.device, lab.bundle(name, precision)
        self.device, self.stream = device, device.stream()
        half = manifest.score_precision == "float16"
        use = Use(dict(shapes or {}), half=half, device=device.index, stream=self.stream, capture=capture)
        providers: list[Provider] = [CPU] if lab.in_test else [(provider, dict(options or {}))]
        disabled = crashing_optimizers(manifest)
        self.session = open_session(folder / SCORE_GRAPH, providers, None, disabled, use=use, allow_cpu=True)
        self.captured = captures(self.session)
        dtype = np.float16 if self.session.get_inputs()[0].type == "tensor(float16)" else np.float32
        noise = np.random.default_rng(SEED).standard_normal((most, 3, *manifest.preprocessing.size)).astype(dtype)
        self._pictures, self._logits = self._put(noise), empty(device, (most, manifest.classes), np.float32)
        self._events = [device.timed_event() for _ in range(2)]

    def _put(self, values: Array) -> DeviceArray:
        made = empty(self.device, values.shape, values.dtype)
        self.device.upload(values, made.pointer, self.stream)
        self.device.synchronize(self.stream)
        return made

    def run(self, count: int, graph: int = NO_GRAPH) -> Callable[[], None]:
        """A run of the first `count` pictures, which nobody waits for, as a CUDA graph of that number."""
        binding, options, device = self.session.io_binding(), run_options(graph), self.device
        both = ((binding.bind_input, "image", self._pictures), (binding.bind_output, "logits", self._logits))
        for bind, name, many in both:
            array = many.rows(0, count)
            bind(name, device.memory, device.index, array.dtype.type, list(array.shape), array.pointer)
        return lambda: self.session.run_with_iobinding(binding, options)

    def logits(self, run: Callable[[], None], count: int) -> Array:
        """The logits of a run; before, they hold what no one could take for a result."""
        found = np.full((count, self._logits.shape[1]), np.nan, np.float32)
        self.device.upload(found, self._logits.pointer, self.stream)
        self.device.synchronize(self.stream)
        run()
        self.device.download(self._logits.pointer, found, self.stream)
        self.device.synchronize(self.stream)
        return found

    def time(self, *runs: Callable[[], None], samples: int) -> dict[str, Any]:
        """Seconds from the beginning of the first of some runs to the end of the last, after a warm-up."""
        start, end = self._events
        for _ in range(WARM_UP):
            for run in runs:
                run()
        seconds = []
        for _ in range(samples):
            self.device.synchronize(self.stream)
            self.device.record(start, self.stream)
            for run in runs:
                run()
            self.device.record(end, self.stream)
            self.device.synchronize(self.stream)
            seconds.append(self.device.elapsed(start, end) / 1e3)
        return spread(seconds)


def partitions(session: onnxruntime.InferenceSession) -> dict[str, dict[str, int]]:
    """Parts and nodes of the graph by the provider that runs them; of the CPU alone nothing is told."""
    if session.get_providers() == [CPU]:
        return {}
    found: dict[str, dict[str, int]] = {}
    for part in session.get_provider_graph_assignment_info():
        counts = found.setdefault(str(part.ep_name), {"parts": 0, "nodes": 0})
        counts["parts"] += 1
        counts["nodes"] += len(part.get_nodes())
    return found


def need(lab: Lab, provider: str) -> None:
    """Make sure that this onnxruntime has a provider; a dry run does without.

    Raises:
        ProviderError: It has not.
    """
    if not lab.in_test and provider not in onnxruntime.get_available_providers():
        raise ProviderError(f"onnxruntime {onnxruntime.__version__} has no {provider} here; install onnxruntime-gpu")


def operations(path: Path) -> float:
    """Multiplications and additions of one picture's pass, of the convolutions and matrix products alone."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path, load_external_data=False))
    graph = model.graph
    known = [*graph.value_info, *graph.output, *graph.input]
    sizes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in known}
    weights = {w.name: list(w.dims) for w in graph.initializer}
    weights |= {n.output[0]: list(_constant(n)) for n in graph.node if n.op_type == "Constant"}
    total = 0.0
    for node in graph.node:
        if node.op_type == "Conv":
            total += 2 * prod(sizes[node.output[0]][1:]) * prod(weights[node.input[1]][1:])
        elif node.op_type in ("Gemm", "MatMul") and node.input[1] in weights:
            total += 2 * prod(weights[node.input[1]][-2:])
    return total


def _constant(node: onnx.NodeProto) -> tuple[int, ...]:
    value = next((a.t for a in node.attribute if a.name == "value"), None)
    return () if value is None else tuple(numpy_helper.to_array(value).shape)
