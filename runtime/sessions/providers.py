"""What onnxruntime's providers are told unless the user says otherwise, and what to do where one of them fails."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import onnxruntime
from platformdirs import user_cache_path

from fusioncam.errors import OutputError, UsageError
from fusioncam.files import CACHE, cache_root
from fusioncam.manifest import Manifest

Provider = str | tuple[str, dict[str, Any]]

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
SHORT = {"cpu": CPU, "cuda": CUDA, "tensorrt": TENSORRT}

GET_GPU, GET_TENSORRT = 'pip install "fusioncam[gpu]"', 'pip install "tensorrt-cu13<11"'
GET_DRIVER = "install NVIDIA's driver, 580 or later, and see with nvidia-smi that it finds a GPU"
GET_MATCHING = "install the versions onnxruntime was built with: CUDA 13, cuDNN 9, TensorRT 10"
GET_BUILD = 'pip uninstall onnxruntime, then pip install "onnxruntime-gpu>=1.31" (x86-64 Linux and Windows)'
CORRECT = "correct the option, see onnxruntime.ai/docs/execution-providers"
REBUILD = f"delete the folder tensorrt in {user_cache_path('fusioncam')}, or in what {CACHE} names"

# For a provider whose failure says nothing else. TensorRT builds on the libraries of CUDA.
INSTALL = {CUDA: GET_GPU, TENSORRT: f'{GET_GPU} "tensorrt-cu13<11"'}
# For a library that is not there: what it belongs to, and how to get that.
LIBRARIES = {
    r"libcuda\.so": ("NVIDIA's driver", GET_DRIVER),
    "nvinfer|nvonnxparser": ("TensorRT", GET_TENSORRT),
    "cudnn": ("cuDNN", GET_GPU),
    "cublas|cudart|cufft|curand|nvrtc|nvJitLink": ("CUDA", GET_GPU),
}
# For every other failure: the text to look for and to show, and what to do.
FAILURES = {
    r"CUDA failure (?:35|100|803|804): [^;\n]*[^;\s]": GET_DRIVER,
    r"CUDA failure 2: [^;\n]*[^;\s]": "free memory of the GPU, or take a smaller chunk",
    r"CUDA failure \d+: [^;\n]*[^;\s]": "see what nvidia-smi says of the GPU",
    r"Invalid device ID: [^.\n]*": CORRECT,
    r"cuDNN is (?:not available|unavailable)": GET_GPU,  # onnxruntime opens without it, but runs few models so
    r"undefined symbol: \w+|version `\S+' not found|Unable to find symbol \w+": GET_MATCHING,
    r'Unknown provider option: "\w+"|Failed to parse provider option "\w+"': CORRECT,
    r"Invalid TensorRT EP option: \w+|The value for the key '\w+' should be .*[^\s.]": CORRECT,
    r"could not deserialize engine|Serialization (?:assertion|error)": REBUILD,  # of another version, or cut short
}

Options = dict[str, Any]


@dataclass(frozen=True)
class Use:
    """How a graph will be used.

    Attributes:
        shapes: The one shape each input will ever have, such as {"image": (64, 3, 224, 224), "class_index": (64,)}.
        half: Whether it is a float16 graph.
        cache: Folder for TensorRT's engines and timings; without one, every start builds them anew.
        device: Number of the GPU.
        stream: Handle of a CUDA stream that all work goes to; 0, the default stream, counts as none.
        capture: Whether runs are to be captured into CUDA graphs, one for each set of buffers; by CUDA only.
    """

    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    half: bool = False
    cache: Path | None = None
    device: int = 0
    stream: int | None = None
    capture: bool = False


# None leaves an option to onnxruntime. Its parser takes no 1 for a switch of TensorRT's, only True.
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
ONE_GRAPH = "trt_cuda_graph_enable"
# What onnxruntime refuses for some graphs, by words of its refusal, and what to do without.
REFUSALS: Mapping[str, Options] = {
    "cannot use the graph capture feature": {"capture": False},  # a node is left to another provider
    "with associated profiles": {"shapes": {}},  # TensorRT takes parts of the graph, whose inputs are other tensors
}


def _profile(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items()) or None


def name_and_options(given: Any) -> tuple[str, Options]:
    """A provider as its name and its options; a mere name has none.

    Raises:
        UsageError: It is neither a name nor a pair of a name and a dict.
    """
    if isinstance(given, str):
        return given, {}
    pair = tuple(given) if isinstance(given, tuple | list) else ()
    if len(pair) != 2 or not isinstance(pair[0], str) or not isinstance(pair[1], dict):
        raise UsageError(f'a provider is a name or a pair such as ("cuda", {{"device_id": "1"}}), not {given!r}')
    return pair[0], pair[1]


def refuse_one_graph(options: Options) -> None:
    """Refuse CUDA graphs of TensorRT's provider.

    It keeps a single one per session, whatever `gpu_graph_id` a run names: with several sets of buffers it would replay
    the graph of another, and give wrong maps in silence. CUDA's provider keeps one for each.

    Raises:
        UsageError: The options ask for them.
    """
    if str(options.get(ONE_GRAPH, "")).lower() in ("1", "true"):
        raise UsageError(f"{ONE_GRAPH} would mix up buffers, of which there are several; leave the option out")


def with_defaults(providers: Sequence[Provider], use: Use) -> list[Provider]:
    """The providers with the options that suit the use; what the user gave for an option stays.

    Nodes that TensorRT does not take go to the next provider that does, and to the CPU even where the list does not
    name it: name CUDA after TensorRT, or they slow everything down.

    Args:
        providers: By full name, in order of preference.
        use: How the graph will be used.
    """
    merged: list[Provider] = []
    for provider in providers:
        name, given = name_and_options(provider)
        if name not in DEFAULTS:
            merged.append(provider)
            continue
        defaults = DEFAULTS[name](use)
        merged.append((name, {k: str(v) for k, v in defaults.items() if v is not None} | given))
        use = replace(use, capture=False)  # only the first: two that capture one stream would get in each other's way
    return merged


def without_refused(use: Use, refusal: str) -> Use | None:
    """The use less what onnxruntime refuses, or None where it is not that which it refuses.

    Args:
        use: What was asked for.
        refusal: onnxruntime's error.
    """
    for words, less in REFUSALS.items():
        if words in refusal and (rest := replace(use, **less)) != use:
            return rest
    return None


def diagnose(text: str) -> tuple[str, str] | None:
    """Why a provider failed, and what to do about it.

    Args:
        text: What onnxruntime logged and raised.
    """
    missing = re.search(r"(lib[\w.+-]+): cannot open shared object", text)
    if missing:
        known = (entry for pattern, entry in LIBRARIES.items() if re.search(pattern, missing[1]))
        what, remedy = next(known, ("which it needs", f"install {missing[1]}"))
        return f"{missing[1]} ({what}) is missing", remedy
    found = ((re.search(pattern, text), remedy) for pattern, remedy in FAILURES.items())
    return next(((match[0], remedy) for match, remedy in found if match), None)


def bundle_digest(manifest: Manifest) -> str:
    """Hex digest of a whole bundle, so that no model is ever given the engine of another."""
    return hashlib.sha256("\n".join(sorted(manifest.files.values())).encode()).hexdigest()


def cache_folder(digest: str, variant: str = "") -> Path:
    """The folder for TensorRT's engines of one bundle; it is made where it is not there.

    It lies in the user's cache folder, or in that which the environment variable FUSIONCAM_CACHE names. Every version
    of onnxruntime has its own: which engines it can read depends on the TensorRT it was built with.

    Args:
        digest: See `bundle_digest`. onnxruntime names an engine after file and tensor names, never after the weights.
        variant: What else the engines depend on, as the name of a folder: the chunk.

    Raises:
        OutputError: It cannot be made or written to.
    """
    folder: Path = cache_root() / "tensorrt" / onnxruntime.__version__ / digest[:16] / variant
    try:
        folder = folder.expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError) as error:  # the latter where there is no such home
        raise OutputError(
            f"cannot keep TensorRT's engines in {folder}: {getattr(error, 'strerror', error)}; "
            f"set the environment variable {CACHE} to a folder that can be written"
        ) from error
