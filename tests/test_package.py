"""What an import loads, and what the package offers by name."""

import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

import fusioncam
from fusioncam import errors

BUILD_TIME = ("torch", "onnx", "onnx_ir", "onnxscript", "matplotlib", "cuda", "pycuda", "cupy")


def loaded_by(code):
    """Top-level modules a fresh interpreter holds after `code`, and the submodules of fusioncam."""
    code += "\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    names = json.loads(out.splitlines()[-1])
    return {n.partition(".")[0] for n in names}, {n for n in names if n.startswith("fusioncam")}


def test_importing_the_package_loads_next_to_nothing():
    before, _ = loaded_by("")
    after, own = loaded_by("import fusioncam")
    assert own == {"fusioncam"}
    assert not after - before - sys.stdlib_module_names - {"fusioncam"}


def test_a_full_explanation_needs_none_of_the_build_time_packages(tiny, pictures, tmp_path):
    np.save(tmp_path / "x.npy", pictures[0])
    top, own = loaded_by(
        "import numpy, fusioncam\n"
        f"found = fusioncam.Explainer({str(tiny.bundle)!r}).explain(numpy.load({str(tmp_path / 'x.npy')!r}))\n"
        "assert found.maps['fusion_cam'].any()"
    )
    assert "onnxruntime" in top
    assert top & set(BUILD_TIME) <= {"onnx"}  # which puts the masks into the graph
    assert not {n for n in own if n.startswith("fusioncam.export")}


@pytest.mark.parametrize("given", [None, "0"])
def test_onnxruntime_sends_and_keeps_nothing_of_its_use_unless_told_to(given, tiny, tmp_path):
    """It would keep what it sends in the cache folder of the home."""
    code = (
        "import os, fusioncam; print(os.environ['ORT_DISABLE_TELEMETRY'])\n"
        "os.environ['ORT_DISABLE_TELEMETRY'] = '1'  # a test sends nothing, whatever is given\n"
        f"fusioncam.Explainer({str(tiny.bundle)!r})"
    )
    env = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    env |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "FUSIONCAM_CACHE": str(tmp_path / "own")}
    env |= {} if given is None else {"ORT_DISABLE_TELEMETRY": given}
    done = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == ([given or "1"], "")
    assert {path.name for path in tmp_path.iterdir()} <= {"own"}


@pytest.mark.parametrize("module", ["fusioncam.kernels", "fusioncam.kernels.masks", "fusioncam.kernels.reference"])
def test_the_kernels_import_neither_end(module):
    top, own = loaded_by(f"import {module}")
    assert not top & {*BUILD_TIME, "onnxruntime"}
    assert not {n for n in own if n.startswith(("fusioncam.export", "fusioncam.runtime"))}


def test_the_names_of_the_methods_are_known_where_neither_onnxruntime_nor_opencv_loads():
    top, _ = loaded_by("import fusioncam.runtime.methods")
    assert not top & {*BUILD_TIME, "onnxruntime", "cv2"}


@pytest.mark.parametrize("name", fusioncam.__all__)
def test_public_names_resolve(name):
    value = getattr(fusioncam, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__name__ == name


def test_all_that_the_reference_lists_is_exported():
    page = (Path(__file__).parents[1] / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    listed = [path.rpartition(".")[::2] for path in re.findall(r"^::: ([\w.]+)", page, re.M)]
    classes = [name for name, value in vars(errors).items() if getattr(value, "__module__", "") == errors.__name__]
    classes = [name for name in classes if name.endswith("Error")]
    for module, name in [*(pair for pair in listed if pair[1] != "errors"), *((errors.__name__, c) for c in classes)]:
        assert name in fusioncam.__all__
        assert getattr(fusioncam, name) is getattr(importlib.import_module(module), name)


def test_the_version_is_that_of_the_installed_package():
    assert fusioncam.__version__ == version("fusioncam")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'fusioncam' has no attribute 'explode'"):
        fusioncam.explode  # noqa: B018
    assert not hasattr(fusioncam, "torch")
