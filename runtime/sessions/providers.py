"""Execution providers of onnxruntime by name, and checks of the list that a user gives."""

import warnings
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import onnxruntime

from fusioncam.errors import UsageError
from fusioncam.runtime.arguments import listed

Options = dict[str, Any]
Provider = str | tuple[str, Options]

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
ON_GPU = (CUDA, TENSORRT)
SHORT = {"cpu": CPU, "cuda": CUDA, "tensorrt": TENSORRT}

ONE_GRAPH = "trt_cuda_graph_enable"


def warn_of_clash() -> None:
    """Warn where both onnxruntime and onnxruntime-gpu are installed: they overwrite each other's files."""
    installed = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            installed.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    if len(installed) > 1:
        warnings.warn(
            f"{' and '.join(installed)} are both installed and overwrite each other's files; "
            "pip uninstall both, then install one",
            RuntimeWarning,
            stacklevel=3,
        )


def resolve(providers: Sequence[Provider] | None) -> list[Provider]:
    """Return providers by full name, in order of preference; by default the CPU alone.

    Args:
        providers: As onnxruntime takes them, or by short name: `cpu`, `cuda`, `tensorrt`.

    Raises:
        UsageError: They are no list of providers, onnxruntime knows no such name, or an option would give wrong maps.
    """
    known = [*SHORT.values(), *onnxruntime.get_all_providers()]
    full: list[Provider] = []
    for provider in [CPU] if providers is None else listed(providers, "providers"):
        name, options = name_and_options(provider)
        name = SHORT.get(name.lower(), name)
        if name not in known:
            raise UsageError(f"there is no execution provider {name!r}; use {', '.join(SHORT)}")
        refuse_one_graph(options)
        full.append(name if isinstance(provider, str) else (name, options))
    if not full:
        raise UsageError(f"no provider is named; name at least one provider of {', '.join(SHORT)}")
    return full


def name_and_options(provider: Any) -> tuple[str, Options]:
    """Return the name and the options of a provider; a mere name has no options.

    Raises:
        UsageError: The provider is neither a name nor a pair of a name and a dict.
    """
    if isinstance(provider, str):
        return provider, {}
    pair = tuple(provider) if isinstance(provider, tuple | list) else ()
    if len(pair) != 2 or not isinstance(pair[0], str) or not isinstance(pair[1], dict):
        raise UsageError(f'a provider is a name or a pair such as ("cuda", {{"device_id": "1"}}), not {provider!r}')
    return pair[0], pair[1]


def refuse_one_graph(options: Options) -> None:
    """Refuse CUDA graphs of TensorRT's provider.

    TensorRT's provider keeps a single CUDA graph per session, whatever `gpu_graph_id` a run names. With several sets of
    buffers it would replay the graph of another set, and silently give wrong maps. CUDA's provider keeps one graph per
    set.

    Raises:
        UsageError: The options ask for CUDA graphs.
    """
    if str(options.get(ONE_GRAPH, "")).lower() in ("1", "true"):
        raise UsageError(f"{ONE_GRAPH} would mix up several sets of buffers; leave the option out")
