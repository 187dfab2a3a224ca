"""Open the engine of a GPU for a bundle."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fusioncam.errors import UsageError
from fusioncam.kernels.device import Device
from fusioncam.manifest import EXPLAIN_GRAPH, GPU_CHUNK, SCORE_GRAPH, Manifest
from fusioncam.runtime.engine.device.engine import DeviceEngine
from fusioncam.runtime.engine.options import EngineOptions
from fusioncam.runtime.providers.naming import name_and_options, resolve, spec_of
from fusioncam.runtime.providers.spec import Provider, Use
from fusioncam.runtime.providers.table import TENSORRT
from fusioncam.runtime.sessions.engine_cache import bundle_digest, cache_folder
from fusioncam.runtime.sessions.open import captures, takes_small_runs
from fusioncam.runtime.sessions.placement import providers_of

SHARED = ("device_id", "user_compute_stream", "has_user_compute_stream")


def open_device_engine(folder: Path, manifest: Manifest, device: Device, options: EngineOptions) -> DeviceEngine:
    """Open an engine that keeps everything between picture and maps on a GPU.

    Args:
        folder: The bundle.
        manifest: Its manifest.
        device: The GPU.
        options: Options. Their providers must take the device's memory. Where they name a stream of the device, all
            work goes to that; by default to a new one.

    Raises:
        ProviderError: A provider cannot run on this machine.
        DeviceError: There is no memory for the buffers.
        BundleError: onnxruntime cannot load a graph.
    """
    providers, chunk = resolve(options.providers), options.chunk or GPU_CHUNK
    stream = agreed(providers, "user_compute_stream")
    own = replace(options, providers=[_without_shared(p) for p in providers])
    with device.entered():
        stream = stream or device.stream()
        names = [name_and_options(p)[0] for p in providers]
        cache = cache_folder(bundle_digest(manifest), f"chunk-{chunk}") if TENSORRT in names else None

        def opened(graph: str, shapes: dict[str, tuple[int, ...]], half: bool, capture: bool) -> Any:
            use = Use(shapes, half=half, cache=cache, device=device.index, stream=stream, capture=capture)
            return own.opened(folder / graph, manifest, use=use)

        size = manifest.preprocessing.shape
        explain = opened(
            EXPLAIN_GRAPH, {"image": (1, *size), "class_index": (1,)}, manifest.precision == "float16", False
        )
        score = opened(SCORE_GRAPH, {"image": (chunk, *size)}, manifest.score_precision == "float16", True)
        small = takes_small_runs(score, names[0])
        ran = providers_of(explain, score)
        return DeviceEngine(device, stream, manifest, explain, score, chunk, not small, captures(score), ran)


def agreed(providers: Sequence[Provider], option: str) -> int | None:
    """Return the value of an option that all GPU providers share; None where no provider has it.

    Raises:
        UsageError: The value is no whole number from 0 on, or the providers have different ones.
    """
    values = [
        str(options[option])
        for name, options in map(name_and_options, providers)
        if spec_of(name).kernels and option in options
    ]
    for value in values:
        if not re.fullmatch("[0-9]{1,20}", value):
            raise UsageError(f"{option} must be a whole number, not {value[:20]!r}")
    if len(set(map(int, values))) > 1:
        raise UsageError(f"the providers disagree about {option} ({', '.join(values)}); say the same to all")
    return int(values[0]) if values else None


def _without_shared(provider: Provider) -> Provider:
    """Return the provider without the options that the engine gives to all providers."""
    name, options = name_and_options(provider)
    return (name, {k: v for k, v in options.items() if k not in SHARED}) if spec_of(name).kernels else provider
