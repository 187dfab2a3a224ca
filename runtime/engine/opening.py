"""Which hardware explains: the sessions of a bundle, and the engine that feeds them."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime

from fusioncam.errors import DeviceError, UsageError
from fusioncam.kernels.arrays import Float32Array
from fusioncam.kernels.device import Device, open_device
from fusioncam.manifest import CHUNK, EXPLAIN_GRAPH, GPU_CHUNK, HEAD_GRAPH, SCORE_GRAPH, Manifest
from fusioncam.quirks import CRASHING_OPTIMIZERS
from fusioncam.runtime.budget import Budget
from fusioncam.runtime.engine.device.engine import DeviceEngine
from fusioncam.runtime.engine.host.engine import HostEngine
from fusioncam.runtime.engine.host.head import Head
from fusioncam.runtime.engine.host.scorer import Scorer, input_type
from fusioncam.runtime.engine.recipe import Steps
from fusioncam.runtime.engine.scheduler import Clock, Found, Progress, Together, Work
from fusioncam.runtime.sessions.chunk_tuning import remembered_chunk
from fusioncam.runtime.sessions.contract import check_session
from fusioncam.runtime.sessions.engine_cache import bundle_digest, cache_folder
from fusioncam.runtime.sessions.masked_graph import masked_graph
from fusioncam.runtime.sessions.open import captures, open_session
from fusioncam.runtime.sessions.provider_options import Use
from fusioncam.runtime.sessions.providers import CPU, CUDA, TENSORRT, Provider, name_and_options, resolve

ON_GPU = (CUDA, TENSORRT)
SHARED = ("device_id", "user_compute_stream", "has_user_compute_stream")


class Engine(Protocol):
    """Explains pictures on some hardware. Safe to share between threads."""

    @property
    def chunk(self) -> int:
        """Masked pictures per run."""

    def serving(self, methods: Sequence[str]) -> "Engine":
        """The engine on the same hardware that makes these methods: there are kernels for some of them only."""

    def look(
        self,
        x: Float32Array,
        classes: Sequence[int],
        clock: Clock,
        progress: Progress | None = None,
        budget: Budget = "exact",
    ) -> AbstractContextManager[Steps[Any, Any]]:
        """Run the explain pass on a preprocessed picture x (3, H, W) for some classes, and go on from there."""

    def finish(self, works: Iterable[Work[Found]]) -> Iterator[Found]:
        """Do the work for many pictures, in their order. Each looks at its picture when it is begun."""

    def together(self, most: int) -> Together[Any]:
        """Room for at most so many works under way together, to be begun and run by the caller; for one thread."""


def open_engine(
    folder: Path,
    manifest: Manifest,
    providers: Sequence[Provider] | None = None,
    chunk: int | None = None,
    threads: int | None = None,
    kernels: bool = True,
) -> Engine:
    """The engine for a bundle: with kernels of our own where the first provider is NVIDIA's, else on the host.

    Args:
        folder: The bundle.
        manifest: Its manifest.
        providers: See `resolve`.
        chunk: Masked pictures per run; by default what a short measurement finds best on the CPU, 64 on a GPU.
        threads: CPU threads within one operator.
        kernels: Whether kernels of our own are used where there are any.

    Raises:
        ProviderError: A provider cannot run on this machine.
        DeviceError: There is no launcher for the GPU's kernels, or no memory for the buffers.
        BundleError: onnxruntime cannot load a graph.
        UsageError: The providers are not told the same device or stream, or the bundle is not for GPUs.
    """
    wanted = resolve(providers)
    chunk = 1 if manifest.one_by_one else chunk
    if manifest.score_precision == "int8" and any(name_and_options(p)[0] in ON_GPU for p in wanted):
        raise UsageError("int8 bundles are for CPUs; for a GPU export the model again, with --precision fp16")
    disabled = crashing_optimizers(manifest)
    if name_and_options(wanted[0])[0] in ON_GPU and kernels and manifest.gradient:  # which they begin with
        number, stream = agreed(wanted, "device_id"), agreed(wanted, "user_compute_stream")
        if stream == 0:
            raise UsageError("user_compute_stream must be a stream of your own: 0, the default one, cannot be shared")
        try:
            # PyCUDA cannot use a stream that it has not made.
            device = open_device(number or 0, "cuda-core" if stream else None)
        except DeviceError:
            open_session(folder / SCORE_GRAPH, wanted, threads, disabled)  # says what onnxruntime lacks, if it does
            raise
        return open_on_device(folder, manifest, device, wanted, chunk, threads, stream)
    return open_on_host(folder, manifest, wanted, chunk, threads)


def open_on_host(
    folder: Path,
    manifest: Manifest,
    wanted: Sequence[Provider],
    chunk: int | None = None,
    threads: int | None = None,
) -> HostEngine:
    """An engine that makes masks and maps on the host, while the model runs wherever the providers say.

    Args:
        folder: The bundle.
        manifest: Its manifest.
        wanted: Providers, as `resolve` gives them.
        chunk: Masked pictures per run.
        threads: CPU threads within one operator.

    Raises:
        ProviderError, BundleError: As for `open_engine`.
    """
    disabled = crashing_optimizers(manifest)

    def opened(graph: str) -> onnxruntime.InferenceSession:
        session = open_session(folder / graph, wanted, threads, disabled, linger=False)
        check_session(session, folder / graph, manifest)
        return session

    def open_head() -> Head:
        return Head(opened(HEAD_GRAPH))

    explain = opened(EXPLAIN_GRAPH)
    return HostEngine(manifest, explain, open_scorer(folder / SCORE_GRAPH, manifest, wanted, chunk, threads), open_head)


def open_scorer(
    path: Path, manifest: Manifest, wanted: Sequence[Provider], chunk: int | None = None, threads: int | None = None
) -> Scorer:
    """What runs the score graph on chunks that are made on the host; on the CPU the graph masks its pictures itself."""
    size, disabled = manifest.preprocessing.size, crashing_optimizers(manifest)
    on_cpu = all(name_and_options(p)[0] == CPU for p in wanted)
    takes_floats = manifest.score_precision != "float16" or manifest.precision == "float16"
    grid = manifest.layer.shape[1:] if on_cpu and takes_floats else None
    model = masked_graph(path, grid, size) if grid else None
    session = open_session(path, wanted, threads, disabled, model=model)
    check_session(session, path, manifest, inputs=model is None)  # `masked_graph` has looked at those it replaced
    dtype = np.float32 if grid else input_type(session)
    on_gpu = name_and_options(wanted[0])[0] in ON_GPU
    scorer = Scorer(
        session, (3, *size), chunk or (GPU_CHUNK if on_gpu else CHUNK), pad=not on_cpu, dtype=dtype, grid=grid
    )
    if on_cpu and chunk is None:
        scorer.chunk = remembered_chunk(manifest, threads, scorer.try_out)
    return scorer


def open_on_device(
    folder: Path,
    manifest: Manifest,
    device: Device,
    providers: Sequence[Provider],
    chunk: int | None = None,
    threads: int | None = None,
    stream: int | None = None,
) -> DeviceEngine:
    """An engine that keeps everything between picture and maps on `device`.

    Args:
        folder: The bundle.
        manifest: Its manifest.
        device: The GPU.
        providers: What onnxruntime shall run on; they must take the device's memory.
        chunk: Masked pictures per run.
        threads: CPU threads within one operator.
        stream: A stream of the device's that all work goes to; by default a new one.

    Raises:
        ProviderError, DeviceError, BundleError: As for `open_engine`.
    """
    chunk = chunk or GPU_CHUNK
    given, providers = providers, [_without_shared(p) for p in providers]
    with device.entered():
        stream = stream or device.stream()
        tensorrt = TENSORRT in (name_and_options(p)[0] for p in providers)
        cache = cache_folder(bundle_digest(manifest), f"chunk-{chunk}") if tensorrt else None

        def open_graph(graph: str, shapes: dict[str, tuple[int, ...]], half: bool, capture: bool) -> Any:
            use = Use(shapes, half=half, cache=cache, device=device.index, stream=stream, capture=capture)
            session = open_session(folder / graph, providers, threads, crashing_optimizers(manifest), use)
            check_session(session, folder / graph, manifest)
            return session

        size = (3, *manifest.preprocessing.size)
        explain = open_graph(
            EXPLAIN_GRAPH, {"image": (1, *size), "class_index": (1,)}, manifest.precision == "float16", False
        )
        score = open_graph(SCORE_GRAPH, {"image": (chunk, *size)}, manifest.score_precision == "float16", True)
        beside = partial(open_on_host, folder, manifest, given, chunk, threads)
        return DeviceEngine(device, stream, manifest, explain, score, chunk, tensorrt, captures(score), beside)


def agreed(providers: Sequence[Provider], option: str) -> int | None:
    """What the GPU providers are told about something that all of them share.

    Raises:
        UsageError: It is no whole number from 0 on, or they are told different things.
    """
    given = [
        str(options[option])
        for name, options in map(name_and_options, providers)
        if name in ON_GPU and option in options
    ]
    for value in given:
        if not re.fullmatch("[0-9]{1,20}", value):
            raise UsageError(f"{option} must be a whole number, not {value[:20]!r}")
    if len(set(map(int, given))) > 1:
        raise UsageError(f"the providers disagree about {option} ({', '.join(given)}); say the same to all")
    return int(given[0]) if given else None


def _without_shared(provider: Provider) -> Provider:
    """The provider without what the engine says to all of them."""
    name, options = name_and_options(provider)
    return (name, {k: v for k, v in options.items() if k not in SHARED}) if name in ON_GPU else provider


def crashing_optimizers(manifest: Manifest) -> Sequence[str]:
    """Optimizers of onnxruntime to leave out."""
    return CRASHING_OPTIMIZERS if "float16" in (manifest.precision, manifest.score_precision) else ()
