"""Causes of failures that onnxruntime reports, and their remedies."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from platformdirs import user_cache_path

from fusioncam.errors import BundleError, FusionCamError, GraphRefusedError, ProviderError, first_line, out_of_memory
from fusioncam.files import CACHE
from fusioncam.runtime.providers.spec import ProviderSpec
from fusioncam.runtime.providers.table import CPU, GET_GPU, GET_TENSORRT

GET_DRIVER = "install NVIDIA's driver, 580 or later, and check with nvidia-smi that it finds a GPU"
GET_MATCHING = "install the versions onnxruntime was built with: CUDA 13, cuDNN 9, TensorRT 10"
CORRECT = "correct the option, see onnxruntime.ai/docs/execution-providers"
# Of CUDA graphs: another library called CUDA while they were captured.
QUIET = "make the Explainer before other libraries use the GPU, or give the cuda provider enable_cuda_graph=0"
REBUILD = f"delete the folder tensorrt in {user_cache_path('fusioncam')}, or in what {CACHE} names"

PLUGIN_CODE = "plugin_ep"  # folder of onnxruntime's sources that speak to plugins, and quote what these say
# What onnxruntime logs of a plugin that could not begin its work. It opens the session all the same, on the CPU.
NOT_BEGUN = r"GetCapability\(\) for {} failed with error: (.*)"
CODES = r"^.*\[ONNXRuntimeError\] : \d+ : \w+ : "  # places in its source and codes, before the message
# A node in the layout that a provider asked for and then refused; the CPU has no such operators.
REFUSED = r"Node '([^']+)' OpType:(\w+) .* was not selected by that EP"
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
    r"CUDA failure 90\d: [^;\n]*[^;\s]": QUIET,
    r"CUDA failure \d+: [^;\n]*[^;\s]": "see what nvidia-smi says of the GPU",
    r"Invalid device ID: [^.\n]*": CORRECT,
    r"cuDNN is (?:not available|unavailable)": GET_GPU,  # onnxruntime opens without it, but runs few models so
    r"undefined symbol: \w+|version `\S+' not found|Unable to find symbol \w+": GET_MATCHING,
    r'Unknown provider option: "\w+"|Failed to parse provider option "\w+"': CORRECT,
    r"Invalid TensorRT EP option: \w+|The value for the key '\w+' should be .*[^\s.]": CORRECT,
    r"Only one of 'backend_type' and 'backend_path' should be set": "name the backend by backend_path, a library",
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


def open_failure(error: Exception, log: str, specs: Sequence[ProviderSpec], path: Path) -> FusionCamError:
    """Return the error of a session that does not open: a provider's, a lack of memory, or the bundle's.

    Args:
        error: The exception of onnxruntime.
        log: Text that onnxruntime's libraries wrote to standard error.
        specs: The providers, in order of preference.
        path: The ONNX file.
    """
    said = str(error).replace(os.fspath(path), "")  # a folder may be named like a provider
    known = diagnose(f"{log}\n{said}")
    if refused := re.search(REFUSED, said):
        names = ",".join(spec.short for spec in specs)
        return GraphRefusedError(
            f"{names} refuses {refused[2]} {refused[1]} of {path.name}, in the layout that it asked for, and the CPU "
            "cannot take it; export the model again, or use the cpu provider"
        )
    suspects = [spec for spec in specs if spec.name != CPU]
    named = [spec for spec in suspects if spec.name.removesuffix("ExecutionProvider").lower() in said.lower()]
    if not named and PLUGIN_CODE in said:
        named = [spec for spec in suspects if spec.plugin]
    if named or (suspects and known):
        row = (named or suspects)[0]
        said = re.sub(CODES, "", first_line(error)) if row.plugin else first_line(error)
        remedy = _check_or_install(row) if row.plugin else None
        return unavailable(row, *(known or (re.sub(r"^.*?(?=Please)", "", said).rstrip("."), remedy)))
    shortage = out_of_memory(error, "use a smaller model or fewer processes, or free some memory")
    return shortage or BundleError(f"onnxruntime cannot load {path}: {first_line(error)}; export the model again")


def not_begun(log: str, specs: Sequence[ProviderSpec]) -> ProviderError | None:
    """Return the error of a plugin that could not begin its work, or None.

    Args:
        log: The log of a session, with errors.
        specs: Its providers.
    """
    for spec in specs:
        if found := re.search(NOT_BEGUN.format(re.escape(spec.name)), log):
            text = re.sub(r"\x1b\[[\d;]*m", "", re.sub(CODES, "", found[1])).strip()
            return unavailable(spec, *(diagnose(text) or (text, _check_or_install(spec))))
    return None


def _check_or_install(spec: ProviderSpec) -> str:
    return f"check its options, or {spec.install}"


def unavailable(spec: ProviderSpec, why: str, remedy: str | None = None) -> ProviderError:
    """Return the error of a provider that cannot run here; without a remedy, it says how the provider is installed."""
    return ProviderError(
        f"the {spec.short} provider cannot be used: {why}; {remedy or spec.install}, or use the cpu provider"
    )
