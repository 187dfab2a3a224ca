"""Execution providers by name, and checks of the list that a user gives."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Any

import onnxruntime

from fusioncam.errors import UsageError
from fusioncam.libraries import describe_clash, require_version
from fusioncam.runtime.arguments import listed
from fusioncam.runtime.providers.spec import Options, Plugin, Provider, ProviderSpec
from fusioncam.runtime.providers.table import BY_NAME, CPU, SHORT

require_version("onnxruntime", onnxruntime.__version__)

ONE_GRAPH, FUSED_BIAS, NHWC = "trt_cuda_graph_enable", "fuse_conv_bias", "prefer_nhwc"
GIVE_LIBRARY = "give the library of a plugin for this machine"
USE = f"use {', '.join(SHORT)}, or NAME:LIBRARY for a plugin of your own"


def warn_of_clash() -> None:
    """Warn where several builds of onnxruntime are installed in one folder."""
    if (clash := describe_clash("onnxruntime")) is not None:
        warnings.warn(clash, RuntimeWarning, stacklevel=3)


def resolve(providers: Sequence[Provider] | None) -> list[Provider]:
    """Return providers by full name, in order of preference; by default the CPU alone.

    Args:
        providers: As onnxruntime takes them, or by short name, see `SHORT`; NAME:LIBRARY is a plugin's library.

    Raises:
        UsageError: They are no list of providers, onnxruntime knows no such name, the list contradicts itself, or an
            option is no text or number, or would give wrong maps.
    """
    known = [*BY_NAME, *onnxruntime.get_all_providers()]
    full: list[Provider] = []
    for provider in [CPU] if providers is None else listed(providers, "providers"):
        given, options = name_and_options(provider)
        name, colon, library = given.partition(":")
        name = SHORT[name.lower()].name if name.lower() in SHORT else name
        if not name or (library == "" if colon else name not in known):
            raise UsageError(f"there is no execution provider {given!r}; {USE}")
        _check_options(given, options)
        refuse_wrong_maps(options)
        full.append(name + colon + library if isinstance(provider, str) else (name + colon + library, options))
    if not full:
        raise UsageError(f"no provider is named; name at least one provider of {', '.join(SHORT)}")
    _check_order([name_and_options(provider)[0].partition(":") for provider in full])
    return full


def _check_order(names: Sequence[tuple[str, str, str]]) -> None:
    """Raise UsageError where a provider is named twice, the CPU comes before others, or is given a library.

    onnxruntime ignores a second entry, with the options in it. The CPU takes all nodes from the providers after it; but
    plugins take them from the CPU, wherever it stands.
    """
    every = [name for name, *_ in names]
    if twice := [name for name in every if every.count(name) > 1]:
        raise UsageError(f"the provider {_short(twice[0])} is named twice; name it once")
    if CPU in every and names[every.index(CPU)][2]:
        raise UsageError("the provider cpu is a part of onnxruntime; name it without a library")
    if CPU in every[:-1]:
        raise UsageError("the provider cpu takes every node, so it comes last; name it after the others, or alone")


def _short(name: str) -> str:
    return BY_NAME[name].short if name in BY_NAME else name


def _check_options(provider: str, options: Options) -> None:
    """Raise UsageError for an option that onnxruntime could only take as a text that nobody meant, such as None."""
    for name, value in options.items():
        if not isinstance(name, str) or not isinstance(value, str | int | float | PurePath):
            raise UsageError(f"option {name!r} of {provider} is {value!r}; give a text or a number, or leave it out")
        if not f"{name}{value}".isprintable():
            raise UsageError(f"option {name!r} of {provider} has unprintable characters; correct it")


def specs(providers: Sequence[Provider] | None) -> list[ProviderSpec]:
    """Return the rows of the table for providers; one that is not there gets a row of its own.

    Args:
        providers: See `resolve`.
    """
    return [spec_of(name_and_options(provider)[0]) for provider in resolve(providers)]


def spec_of(full: str) -> ProviderSpec:
    """Return the row of a provider by its full name, or NAME:LIBRARY."""
    name, _, library = full.partition(":")
    spec = BY_NAME.get(name, ProviderSpec(name, name, fixed=bool(library)))
    if not library:
        return replace(spec, plugin=None) if _is_built_in(spec) else spec
    return replace(spec, install=GIVE_LIBRARY, plugin=replace(spec.plugin or Plugin(None), library=Path(library)))


def _is_built_in(spec: ProviderSpec) -> bool:
    """Return whether this build of onnxruntime holds what others load as a plugin, as onnxruntime-openvino does.

    onnxruntime lists a plugin that is loaded, too.
    """
    if spec.plugin is None or spec.plugin.module is None or find_spec(spec.plugin.module) is not None:
        return False
    return spec.name in onnxruntime.get_available_providers()


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


def refuse_wrong_maps(options: Options) -> None:
    """Refuse options by which a provider would silently compute something else.

    TensorRT's provider keeps a single CUDA graph per session, whatever `gpu_graph_id` a run names. With several sets of
    buffers it would replay the graph of another set. CUDA's provider keeps one graph per set.

    CUDA's provider, told to fuse biases in NCHW, clears the output of each convolution by a plain `cudaMemset`: on the
    default stream, for which a session's stream does not wait (onnxruntime 1.31.1, conv.cc and conv_transpose.cc). The
    memory may still be in use by earlier kernels, and within the capture of a CUDA graph that call is an error. In NHWC
    there is no such call.

    Raises:
        UsageError: The options ask for one of these.
    """
    if _is_on(options, ONE_GRAPH):
        raise UsageError(f"{ONE_GRAPH} would mix up several sets of buffers; leave the option out")
    if _is_on(options, FUSED_BIAS) and not _is_on(options, NHWC):
        raise UsageError(f"{FUSED_BIAS} clears memory that is in use; leave the option out, or add {NHWC}=1")


def _is_on(options: Options, name: str) -> bool:
    return str(options.get(name, "")).lower() in ("1", "true")
