"""Options of onnxruntime's providers that suit how a graph is used."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fusioncam.runtime.sessions.providers import CUDA, TENSORRT, Options, Provider, name_and_options


@dataclass(frozen=True)
class Use:
    """The use of a graph, from which options of providers follow.

    Attributes:
        shapes: The fixed shape of each input, such as {"image": (64, 3, 224, 224), "class_index": (64,)}.
        half: Whether the graph computes in float16.
        cache: Folder for TensorRT's engines and timings; without one, every start builds them anew.
        device: Number of the GPU.
        stream: Handle of the CUDA stream for all work; 0, the default stream, counts as none.
        capture: Whether CUDA's provider captures runs into CUDA graphs, one for each set of buffers.
    """

    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    half: bool = False
    cache: Path | None = None
    device: int = 0
    stream: int | None = None
    capture: bool = False


# None leaves an option to onnxruntime, whose parser takes True, not 1, for a switch of TensorRT's.
DEFAULTS: Mapping[str, Callable[[Use], Options]] = {
    CUDA: lambda use: {
        "device_id": use.device,
        "user_compute_stream": use.stream,
        "cudnn_conv_algo_search": "HEURISTIC",  # onnxruntime's EXHAUSTIVE times every algorithm at the first run
        "use_tf32": 0,  # 10 bits of each factor do not give maps exact to 2e-3
        "arena_extend_strategy": "kSameAsRequested",  # shapes never change: doubling would only waste memory
        "enable_cuda_graph": 1 if use.capture else None,
    },
    TENSORRT: lambda use: {
        "device_id": use.device,
        "user_compute_stream": use.stream,
        # Without them an engine is built at the first run, and once more for every new shape.
        "trt_profile_min_shapes": _profile(use.shapes),
        "trt_profile_opt_shapes": _profile(use.shapes),
        "trt_profile_max_shapes": _profile(use.shapes),
        "trt_engine_cache_enable": True if use.cache else None,
        "trt_engine_cache_path": use.cache,
        "trt_timing_cache_enable": True if use.cache else None,
        "trt_timing_cache_path": use.cache,
        "trt_fp16_enable": use.half or None,
        # No CUDA graphs, see `refuse_one_graph`.
    },
}
# For features that onnxruntime refuses for some graphs, by words of its error: the use without the feature.
REFUSALS: Mapping[str, Options] = {
    "cannot use the graph capture feature": {"capture": False},  # a node is left to another provider
    "with associated profiles": {"shapes": {}},  # TensorRT takes parts of the graph, whose inputs are other tensors
}


def _profile(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items()) or None


def with_defaults(providers: Sequence[Provider], use: Use) -> list[Provider]:
    """Return the providers with the options that suit the use; the user's own options stay.

    A node that TensorRT refuses runs on the next provider that takes it, at last on the CPU, named or not: name CUDA
    after TensorRT, or such nodes slow everything down.

    Args:
        providers: By full name, in order of preference.
        use: The use of the graph.
    """
    merged: list[Provider] = []
    for provider in providers:
        name, own = name_and_options(provider)
        if name not in DEFAULTS:
            merged.append(provider)
            continue
        defaults = DEFAULTS[name](use)
        merged.append((name, {k: str(v) for k, v in defaults.items() if v is not None} | own))
        use = replace(use, capture=False)  # only the first provider: two cannot capture the same stream
    return merged


def without_refused(use: Use, refusal: str) -> Use | None:
    """Return the use without the feature that an error of onnxruntime refuses; None where it refuses none.

    Args:
        use: The use so far.
        refusal: The text of the error.
    """
    for words, less in REFUSALS.items():
        if words in refusal and (rest := replace(use, **less)) != use:
            return rest
    return None
