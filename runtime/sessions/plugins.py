"""Providers in libraries of their own: onnxruntime loads a library once per process, and says which devices it has."""

import os
import re
import threading
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnxruntime

from fusioncam import supervisor
from fusioncam.errors import UsageError, first_line
from fusioncam.runtime.providers.options import as_text
from fusioncam.runtime.providers.spec import Options, Plugin, PluginUse, ProviderSpec
from fusioncam.runtime.sessions.failures import diagnose, unavailable
from fusioncam.runtime.sessions.guarded import refuse_fork
from fusioncam.runtime.sessions.native_stderr import native_stderr

KIND, NUMBER = "device_type", "device_id"  # options that choose the device; onnxruntime takes devices, not options
# What onnxruntime says of a library that it does not take, and what is wrong with it. {} is the library.
LIBRARY_FAULTS = {
    r"file too short|invalid ELF header|wrong ELF class|cannot be loaded|not a valid Win32|not a mach-o|slice is not": (
        "{} is no library for this machine"
    ),
    r"CreateEpFactories|ReleaseEpFactory": "{} is a library, but no provider of onnxruntime",
}
# What a library says to an onnxruntime that is too old for it; API version 27 is that of 1.27.
TOO_OLD = (r'minimum required version "?([\d.]+)', r"ORT API version (\d+)")

_LOCK = threading.Lock()
_LOADED: dict[str, Path] = {}
_PROCESS: dict[str, int] = {}  # that loaded it


def require(providers: Sequence[ProviderSpec]) -> None:
    """Raise an error, as `plugin_devices` does, for the first provider that cannot be loaded here."""
    for spec in providers:
        if spec.plugin is not None:
            with native_stderr(and_stdout=True):
                plugin_devices(spec, {})
        elif spec.name not in onnxruntime.get_available_providers():
            raise unavailable(spec, "this build of onnxruntime does not have it", spec.build)


def plugin_devices(spec: ProviderSpec, options: Options) -> tuple[list[Any], Options]:
    """Return the devices of a plugin for a session, and its options, with defaults where the user's leave them.

    Args:
        spec: The plugin's row.
        options: The user's.

    Raises:
        ProviderError: The plugin is not installed, cannot be loaded, or has no device here.
        UsageError: Another library has its name.
    """
    plugin = spec.plugin
    assert plugin is not None
    with _LOCK:
        library = _load(spec, plugin)
    offered = onnxruntime.get_ep_devices()
    devices = [d for d in offered if d.ep_name == spec.name]
    others = {d.ep_name for d in offered if d.ep_metadata.get("library_path") == os.fspath(library)} - {spec.name}
    if others and not devices:
        raise UsageError(f"{library} calls its provider {min(others)}; use {min(others)}:{library}")
    sources = {Path(path).resolve() for d in devices if (path := d.ep_metadata.get("library_path"))}
    if plugin.library is not None and sources and library not in sources:  # by the program that uses us
        raise UsageError(f"{spec.name} is already loaded from {min(sources)}; give {library} another name")
    if not devices:
        raise unavailable(spec, "it finds no device on this machine", f"run it where there is {plugin.device}")
    kinds = [_kind(d) for d in devices]
    kind = str(options.get(KIND) or next((k for k in plugin.kinds if k in kinds), kinds[0])).upper()
    of_kind = [d for d in devices if _kind(d) == kind]
    number = str(options.get(NUMBER, 0))
    if not number.isdecimal() or int(number) >= len(of_kind):
        there = ", ".join(f"{k} {n}" for k in sorted({*kinds}) for n in range(kinds.count(k)))
        raise unavailable(spec, f"it has no device {kind} {number}, only {there}", f"correct {KIND} or {NUMBER}")
    own = {name: str(value) for name, value in options.items() if name not in (KIND, NUMBER)}
    return [of_kind[int(number)]], as_text(plugin.defaults(PluginUse(library, kind))) | own


def _kind(device: Any) -> str:
    return str(device.device.type).rpartition(".")[2]


def _load(spec: ProviderSpec, plugin: Plugin) -> Path:
    """Let onnxruntime load the library of a plugin, unless it has done so before; return its path."""
    _refuse_old(spec, plugin.least)
    library = plugin.library or _of_wheel(spec, plugin)
    if spec.name in _LOADED:
        refuse_fork(_PROCESS.get(spec.name, os.getpid()))
        if plugin.library is not None and _LOADED[spec.name] != library.resolve():
            raise UsageError(f"{spec.name} is already loaded from {_LOADED[spec.name]}; give {library} another name")
        return _LOADED[spec.name]
    if not os.path.isfile(library):  # noqa: PTH113 (Path.is_file raises for a name that is too long)
        raise unavailable(spec, f"there is no file {library}")
    supervisor.uses(f"the {spec.short} provider")
    try:
        onnxruntime.register_execution_provider_library(spec.name, os.fspath(library.resolve()))
    except Exception as error:  # onnxruntime's exceptions share no base class
        if "already registered" not in str(error):  # by the program that uses us
            raise _load_failure(spec, library, error) from error
    _LOADED[spec.name], _PROCESS[spec.name] = library.resolve(), os.getpid()
    return _LOADED[spec.name]


def _refuse_old(spec: ProviderSpec, least: str) -> None:
    """Raise ProviderError where onnxruntime is older than a plugin allows."""
    version = onnxruntime.__version__
    if _numbers(version) < _numbers(least):
        raise unavailable(spec, f"it needs onnxruntime {least} or later, not {version}", "upgrade onnxruntime")


def _numbers(version: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", version)[:3]]


def _of_wheel(spec: ProviderSpec, plugin: Plugin) -> Path:
    """Return the library that the plugin's wheel names."""
    module = plugin.module
    if module is None or find_spec(module) is None:
        raise unavailable(spec, f"its wheel ({module}) is not installed")
    try:
        return Path(import_module(module).get_library_path())
    except Exception as error:  # whatever runs when a wheel of others is imported
        known = diagnose(str(error)) or (f"{module} cannot be imported: {first_line(error)}", None)
        raise unavailable(spec, *known) from error


def _load_failure(spec: ProviderSpec, library: Path, error: Exception) -> Exception:
    """Return the error of a library that onnxruntime does not take."""
    said = str(error)
    for pattern in TOO_OLD:
        if least := re.search(pattern, said):
            version = least[1].rstrip(".") if "." in least[1] else f"1.{least[1]}"
            why = f"it needs onnxruntime {version} or later, not {onnxruntime.__version__}"
            return unavailable(spec, why, "upgrade onnxruntime")
    for pattern, fault in LIBRARY_FAULTS.items():
        if re.search(pattern, said):
            return unavailable(spec, fault.format(library))
    return unavailable(spec, *(diagnose(said) or (first_line(error).rstrip("."), None)))
