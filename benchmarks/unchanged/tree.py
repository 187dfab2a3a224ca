"""The tree under test: what of it is not public, by the names it has had, and its own test support."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import fusioncam

ROOT = Path(fusioncam.__file__).resolve().parents[1]

# Every name a thing has had, the oldest first: the script runs on trees before and after a move.
NAMES = {
    "open_on_device": ("fusioncam.runtime.engines:open_on_device",),
    "Pipeline": ("fusioncam.runtime.engine:Pipeline",),
    "every_method": ("fusioncam.runtime.methods:EVERY",),
    "read_bundle": ("fusioncam.manifest:read_bundle",),
}
OPENERS = ("open_engine",)  # what the Explainer opens its engines with, wherever it lies


def lookup(what: str) -> Any:
    """Return the thing of `NAMES`, by the first of its names that this tree has.

    Raises:
        ImportError: The tree has none of them.
    """
    for name in NAMES[what]:
        module, _, attribute = name.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError):
            continue
    raise ImportError(f"{what} has none of the names {', '.join(NAMES[what])}; add its new one to NAMES")


def test_support(ending: str) -> ModuleType:
    """Return the module in the file of the tree's tests whose path ends so.

    Raises:
        ImportError: There is no such file, or more than one.
    """
    files = [path for path in (ROOT / "tests").rglob(Path(ending).name) if path.as_posix().endswith(f"/{ending}")]
    if len(files) != 1:
        raise ImportError(f"{len(files)} files of {ROOT / 'tests'} end in {ending}")
    name = f"unchanged_{files[0].stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, files[0])
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]
