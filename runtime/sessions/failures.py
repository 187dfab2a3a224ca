"""Causes of failures that onnxruntime reports, and their remedies."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from platformdirs import user_cache_path

from fusioncam.errors import BundleError, FusionCamError, ProviderError, first_line, out_of_memory
from fusioncam.files import CACHE
from fusioncam.runtime.sessions.providers import CPU, CUDA, SHORT, TENSORRT

GET_GPU, GET_TENSORRT = 'pip install "fusioncam[gpu]"', 'pip install "tensorrt-cu13<11"'
GET_DRIVER = "install NVIDIA's driver, 580 or later, and check with nvidia-smi that it finds a GPU"
GET_MATCHING = "install the versions onnxruntime was built with: CUDA 13, cuDNN 9, TensorRT 10"
GET_BUILD = 'pip uninstall onnxruntime, then pip install "onnxruntime-gpu>=1.31" (x86-64 Linux and Windows)'
CORRECT = "correct the option, see onnxruntime.ai/docs/execution-providers"
REBUILD = f"delete the folder tensorrt in {user_cache_path('fusioncam')}, or in what {CACHE} names"

# For a provider whose failure names no cause. TensorRT builds on the libraries of CUDA.
INSTALL = {CUDA: GET_GPU, TENSORRT: f'{GET_GPU} "tensorrt-cu13<11"'}
# For a missing library, by a pattern of its name: the product it belongs to, and the way to install that product.
LIBRARIES = {
    r"libcuda\.so": ("NVIDIA's driver", GET_DRIVER),
    "nvinfer|nvonnxparser": ("TensorRT", GET_TENSORRT),
    "cudnn": ("cuDNN", GET_GPU),
    "cublas|cudart|cufft|curand|nvrtc|nvJitLink": ("CUDA", GET_GPU),
}
# For every other failure, by a pattern of the text that is shown: the remedy.
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


def diagnose(text: str) -> tuple[str, str] | None:
    """Return the cause of a provider's failure and its remedy, or None for an unknown failure.

    Args:
        text: The log of onnxruntime and the message of its exception.
    """
    missing = re.search(r"(lib[\w.+-]+): cannot open shared object", text)
    if missing:
        known = (entry for pattern, entry in LIBRARIES.items() if re.search(pattern, missing[1]))
        what, remedy = next(known, ("which it needs", f"install {missing[1]}"))
        return f"{missing[1]} ({what}) is missing", remedy
    matches = ((re.search(pattern, text), remedy) for pattern, remedy in FAILURES.items())
    return next(((match[0], remedy) for match, remedy in matches if match), None)


def run_failure(error: Exception) -> FusionCamError:
    """Return the error of a session that does not run."""
    if (shortage := out_of_memory(error)) is not None:
        return shortage
    known = diagnose(str(error))
    remedy = known[1] if known else "export the model again"
    return FusionCamError(f"onnxruntime cannot run the model: {first_line(error)}; {remedy}")


def open_failure(error: Exception, log: str, names: Sequence[str], path: Path) -> FusionCamError:
    """Return the error of a session that does not open: a provider's, a lack of memory, or the bundle's.

    Args:
        error: The exception of onnxruntime.
        log: Text that onnxruntime's libraries wrote to standard error.
        names: Providers by full name, in order of preference.
        path: The ONNX file.
    """
    said = str(error).replace(os.fspath(path), "")  # a folder may be named like a provider
    known = diagnose(f"{log}\n{said}")
    suspects = [n for n in names if n != CPU]
    named = [n for n in suspects if n.removesuffix("ExecutionProvider").lower() in said.lower()]
    if named or (suspects and known):
        name = (named or suspects)[0]
        unknown = re.sub(r"^.*?(?=Please)", "", first_line(error)).rstrip("."), None
        return unavailable(name, *(known or unknown))
    shortage = out_of_memory(error, "use a smaller model or fewer processes, or free some memory")
    return shortage or BundleError(f"onnxruntime cannot load {path}: {first_line(error)}; export the model again")


def unavailable(name: str, why: str, remedy: str | None = None) -> ProviderError:
    """Return the error of a provider that cannot run here; without a remedy, it names the packages to install."""
    remedy = remedy or INSTALL.get(name, "install what it needs")
    short = next((s for s, full in SHORT.items() if full == name), name)
    return ProviderError(f"the {short} provider cannot be used: {why}; {remedy}, or use the cpu provider")
