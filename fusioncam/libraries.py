"""Python packages and shared libraries that cannot be loaded: which one it is, and what to do."""

import re
import sys
from collections.abc import Iterator
from importlib import metadata
from traceback import walk_tb
from types import ModuleType

from fusioncam.errors import first_line

# The name that a package is installed by, where it is not the name that it is imported by.
DISTRIBUTIONS = {"cv2": "opencv-python-headless", "google": "protobuf", "onnx_ir": "onnx-ir"}

# What a failure says, the packages concerned, and what to do; the first line that fits counts.
REMEDIES = (
    (r"GLIBC\w*_[\d.]+' not found|CXXABI_|musl", ".*", "use a newer system: the package was built for one"),
    (r"libstdc\+\+|libgcc_s", ".*", "install the system's C++ library, for instance apt-get install libstdc++6"),
    (r"libgomp", ".*", "install the system's OpenMP library, for instance apt-get install libgomp1"),
    (r"DLL load failed", "(?!cv2).*", "install the Microsoft Visual C++ Redistributable"),
    # All builds of OpenCV share one folder, and removing one of them breaks the others: all have to go first.
    (
        "",
        "cv2",
        "pip uninstall opencv-python opencv-contrib-python opencv-python-headless, "
        'then pip install "opencv-python-headless>=5.0,<6"',
    ),
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
    module = named.partition(".")[0] or next(_imported_packages(error), "fusioncam")
    installed = metadata.packages_distributions().get(module, [])
    package = installed[0] if installed else DISTRIBUTIONS.get(module, module)
    remedy = next(do for says, of, do in REMEDIES if re.search(says, str(error)) and re.fullmatch(of, module))
    return f"the Python package {package} cannot be loaded ({first_line(error)}); {remedy.format(package=package)}"


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
