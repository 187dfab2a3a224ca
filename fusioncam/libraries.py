"""Packages and shared libraries that are missing, too old or cannot be loaded: which one it is, and what to do."""

import importlib
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from traceback import walk_tb
from types import ModuleType
from typing import Any, NamedTuple

from fusioncam.errors import FusionCamError, LibraryError, first_line


class Library(NamedTuple):
    """A library that exists as several builds, distributions that share one folder and overwrite each other's files.

    Attributes:
        title: Its name in messages.
        lowest: The lowest version that works; no dependency demands it, because no dependency knows the build.
        builds: How the names of its distributions begin.
        install: What to do where there is none.
    """

    title: str
    lowest: tuple[int, int]
    builds: tuple[str, ...]
    install: str


LIBRARIES = {
    "onnxruntime": Library(
        "onnxruntime",
        (1, 21),
        ("onnxruntime", "ort"),
        "pip install onnxruntime, or the build for your hardware, such as onnxruntime-gpu or onnxruntime-openvino",
    ),
    "cv2": Library("OpenCV", (4, 10), ("opencv",), "pip install opencv-python-headless"),
}
NONE_INSTALLED = (
    "neither onnxruntime nor OpenCV is installed; "
    'pip install "fusioncam[cpu]", or beside an NVIDIA GPU "fusioncam[gpu]"'
)

# The name that a package is installed by, where it is not the name that it is imported by.
DISTRIBUTIONS = {"cv2": "opencv-python-headless", "google": "protobuf", "onnx_ir": "onnx-ir"}

HEADLESS = "pip install opencv-python-headless"

# What a failure says, the packages concerned, and what to do; the first line that fits counts.
REMEDIES = (
    (r"GLIBC\w*_[\d.]+' not found|CXXABI_|musl", ".*", "use a newer system: the package was built for one"),
    (r"libstdc\+\+|libgcc_s", ".*", "install the system's C++ library, for instance apt-get install libstdc++6"),
    (r"libgomp", ".*", "install the system's OpenMP library, for instance apt-get install libgomp1"),
    (r"DLL load failed", "(?!cv2).*", "install the Microsoft Visual C++ Redistributable"),
    (r"multiarray failed to import|_ARRAY_API", ".*", "it was built for NumPy 1: pip install --upgrade {package}"),
    # Builds with windows want libGL and X11 of the system; headless builds do not.
    (r"libGL|libX|libxcb|libSM|libICE|libgthread|libglib", "cv2", "pip uninstall {package}, then " + HEADLESS),
    # In a checkout where git makes no links, Python finds only a part of the package until it is installed; and in one
    # that was updated since, files that are no longer there.
    ("", "fusioncam", "install it anew: pip install --force-reinstall fusioncam, or in a checkout pip install -e ."),
    ("", ".*", "pip install --force-reinstall {package}"),
)

_LIBRARY = re.compile(r"shared object|\.so\b|\.dylib|\.dll|DLL load|undefined symbol", re.IGNORECASE)


def describe_import_failure(error: BaseException) -> str | None:
    """Return one line on a package or shared library that cannot be loaded, or None for any other error."""
    if isinstance(error, ImportError):
        named = error.name or ""
    elif isinstance(error, OSError) and error.filename is None and _LIBRARY.search(str(error)):
        named = ""
    elif isinstance(error, FileNotFoundError) and _is_of_import(error):
        named = "fusioncam"  # an editable install names a file that has become a folder
    elif isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        named = error.obj.__name__  # a package that is half removed, or of another version
        if named.startswith("fusioncam"):
            return None
    else:
        return None
    if isinstance(error, FusionCamError):
        return str(error)
    module = named.partition(".")[0] or next(_imported_packages(error), "fusioncam")
    if module in LIBRARIES:
        missing = [name for name in LIBRARIES if find_spec(name) is None]
        if module in missing:
            library = LIBRARIES[module]
            return NONE_INSTALLED if len(missing) > 1 else f"{library.title} is not installed; {library.install}"
        if (clash := describe_clash(module)) is not None:
            return f"{clash} ({first_line(error)})"
    installed = metadata.packages_distributions().get(module, [])
    package = installed[0] if installed else DISTRIBUTIONS.get(module, module)
    remedy = next(do for says, of, do in REMEDIES if re.search(says, str(error)) and re.fullmatch(of, module))
    return f"the Python package {package} cannot be loaded ({first_line(error)}); {remedy.format(package=package)}"


def load(module: str, name: str) -> Any:
    """Import a module and return what it calls by a name.

    Raises:
        LibraryError: A package or shared library cannot be loaded.
    """
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, OSError, AttributeError) as error:
        if isinstance(error, FusionCamError) or (line := describe_import_failure(error)) is None:
            raise
        raise LibraryError(line) from error


def require_version(module: str, version: str, lowest: tuple[int, int] | None = None) -> None:
    """Check that a library is recent enough, for all of fusioncam or for what needs more than the rest.

    Raises:
        LibraryError: It is too old.
    """
    title, least, *_ = LIBRARIES[module]
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < (lowest or least):
        wanted = ".".join(map(str, lowest or least))
        raise LibraryError(
            f"{title} {version} is too old{' for this' * bool(lowest)}; install {title} {wanted} or later"
        )


def describe_clash(module: str) -> str | None:
    """Return one line where several builds of a library are installed in one folder, or None."""
    spec = find_spec(module)
    builds = {}
    for place in spec.submodule_search_locations or () if spec else ():
        for info in Path(place).parent.glob("*.dist-info"):
            distribution = metadata.Distribution.at(info)
            # Plugins have names alike, but folders of their own.
            if info.name.startswith(LIBRARIES[module].builds) and f"{module}/__init__.py" in _record(distribution):
                builds[distribution.name] = distribution.version
    if len(builds) < 2:
        return None
    names = " and ".join(f"{name} {version}" for name, version in sorted(builds.items()))
    return (
        f"{names} are installed together and overwrite each other's files; "
        f"pip uninstall {' '.join(sorted(builds))}, then install one of them"
    )


def _record(distribution: metadata.Distribution) -> set[str]:
    return {line.partition(",")[0] for line in (distribution.read_text("RECORD") or "").splitlines()}


def _is_of_import(error: BaseException) -> bool:
    """Return whether Python's own import system raised the error."""
    *_, (frame, _) = [(None, 0), *walk_tb(error.__traceback__)]
    return frame is not None and frame.f_code.co_filename.startswith("<frozen importlib")


def _imported_packages(error: BaseException) -> Iterator[str]:
    """Yield the packages whose code was running when the error was raised, from the one that we imported on."""
    names, trace = list[str](), error.__traceback__
    while trace is not None:
        names.append(str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0])
        trace = trace.tb_next
    ours = len(names) - names[::-1].index("fusioncam") if "fusioncam" in names else 0
    return (n for n in names[ours:] if n and n != "__main__" and n not in sys.stdlib_module_names)
