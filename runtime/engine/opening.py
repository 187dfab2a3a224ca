"""Choose the engine for a bundle: a GPU's, where the first provider is NVIDIA's, else the host's."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from fusioncam.errors import DeviceError, UsageError
from fusioncam.kernels.device import open_device
from fusioncam.manifest import SCORE_GRAPH, Manifest
from fusioncam.quirks import crashing_optimizers
from fusioncam.runtime.engine.device.opening import agreed, open_device_engine
from fusioncam.runtime.engine.host.opening import open_host_engine
from fusioncam.runtime.engine.options import EngineOptions
from fusioncam.runtime.engine.protocols import Engine
from fusioncam.runtime.providers.naming import resolve, specs
from fusioncam.runtime.providers.spec import ProviderSpec
from fusioncam.runtime.sessions.zero_points import is_symmetric


class EngineSelector:
    """Selects the engine of one bundle by the methods asked for.

    Args:
        preferred: Serves all methods that it supports.
        open_fallback: Opens an engine on the same hardware for other methods, when they are first asked for. It takes
            the memory of the weights a second time.
    """

    def __init__(self, preferred: Engine, open_fallback: Callable[[], Engine] | None = None) -> None:
        self.preferred, self._open_fallback = preferred, open_fallback
        self._fallback: Engine | None = None
        self._opening = threading.Lock()

    def engine_for(self, methods: Sequence[str], verify: bool = False) -> Engine:
        """Return the engine that makes these methods, with verdicts on them or without."""
        if self._open_fallback is None or self.preferred.supports(methods, verify):
            return self.preferred
        with self._opening:
            if self._fallback is None:
                self._fallback = self._open_fallback()
            return self._fallback


def open_engines(folder: Path, manifest: Manifest, options: EngineOptions) -> EngineSelector:
    """Open the engines of a bundle: on a GPU with kernels of our own, and a host fallback for other methods.

    Args:
        folder: The bundle.
        manifest: Its manifest.
        options: Options.

    Raises:
        ProviderError: A provider cannot run on this machine.
        DeviceError: There is no launcher for the GPU's kernels, or no memory for the buffers.
        BundleError: onnxruntime cannot load a graph.
        UsageError: The providers have different devices or streams, or the bundle is not for GPUs.
    """
    providers = resolve(options.providers)
    int8 = manifest.score_precision == "int8"
    options = replace(options, providers=providers, chunk=1 if manifest.one_by_one else options.chunk)
    if int8:
        _check_int8(specs(providers), folder / SCORE_GRAPH)
    open_host = partial(open_host_engine, folder, manifest, options)
    kernels = specs(providers)[0].kernels and options.kernels and not int8  # of which some passes go to another graph
    if not _kernels_serve(manifest) or (options.device is None and not (kernels and manifest.gradient)):
        return EngineSelector(open_host())
    number, stream = agreed(providers, "device_id"), agreed(providers, "user_compute_stream")
    if stream == 0:
        raise UsageError("user_compute_stream must be a stream of your own: 0, the default one, cannot be shared")
    try:
        # PyCUDA cannot use a stream that it has not made.
        device = options.device or open_device(number or 0, "cuda-core" if stream else None)
    except DeviceError:
        # Opened for its error, which says what onnxruntime lacks.
        options.open_session(folder / SCORE_GRAPH, providers, options.threads, crashing_optimizers(manifest))
        raise
    return EngineSelector(open_device_engine(folder, manifest, device, options), open_host)


def _kernels_serve(manifest: Manifest) -> bool:
    """Return whether kernels can explain a bundle: they mask pictures of three channels, and read classes as they are.

    A single output has a class for either direction.
    """
    classes = manifest.form.kind == "vector" and (manifest.task == "classify" or manifest.source.outputs == 1)
    return classes and manifest.preprocessing.channels == 3 and manifest.preprocessing.kind == "pictures"


def _check_int8(providers: Sequence[ProviderSpec], score: Path) -> None:
    """Raise UsageError where a provider does not take an int8 score graph."""
    for spec in providers:
        if spec.int8 == "none":
            raise UsageError(f"the {spec.short} provider takes no int8; export the model again with --precision fp16")
        if spec.int8 == "symmetric" and not is_symmetric(score):
            remedy = "export the model again with --precision int8 --symmetric, or fp16"
            raise UsageError(f"the {spec.short} provider takes int8 around zero only; {remedy}")
