"""Bundles of models that the benchmark builds, some with the single graph and that without a loop."""

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import zoo
from cpu.subjects import built, kind_of
from zoo.exporting import WAYS, write

from engines import operators
from fusioncam.export import assembly, export_model, export_torch
from fusioncam.kernels.arrays import Float32Array
from fusioncam.manifest import Preprocessing

TESTS = Path(__file__).resolve().parents[2] / "tests" / "export"
FAMILIES = ("convolutional", "compact", "mobile", "tokens", "reordered")  # modules of the tests that hold networks
LARGE = ("resnet18", "mobilenetv2")  # of `networks.py`, 224 x 224 pixels
PRECISIONS = ("fp32", "fp16", "int8")  # of the scores; int8 is symmetric
FORMS: Mapping[str, Any] = {"single": True, "unrolled": 8}  # of the method, in the bundles of real sizes
PICTURES = 1  # to calibrate on: engines do not depend on them

Make = Callable[[Path, str], None]  # writes a bundle whose scores have some precision


def sources(models: Path | None) -> Mapping[str, tuple[Make, tuple[str, ...]]]:
    """Return how to make a bundle, and the precisions of its scores, by the name of the network.

    Args:
        models: Folder of ONNX files; None for none.
    """
    found: dict[str, tuple[Make, tuple[str, ...]]] = {}
    for name in LARGE:
        found[name] = partial(_of_module, partial(built, name), (kind_of(name).size,) * 2, FORMS), PRECISIONS
    for path in sorted(models.glob("*.onnx")) if models else ():
        found[path.stem] = partial(_of_file, path), PRECISIONS
    for name, network in _of_tests():
        found[f"tests/{name}"] = partial(_of_module, network.make, network.size, {}), PRECISIONS
    for name, make in operators.NETWORKS.items():
        found[f"operators/{name}"] = partial(_of_operators, make), PRECISIONS[:1]
    for name, entry in zoo.ENTRIES.items():
        if importlib.util.find_spec(entry.library):
            found[name] = partial(_of_module, partial(zoo.build, entry), entry.size, {}), PRECISIONS[:1]
    return found


def _of_tests() -> Iterator[tuple[str, Any]]:
    """Yield the networks of the tests' table by name."""
    network = _module("networks").Network
    for family in FAMILIES:
        for name, row in _module(family).NETWORKS.items():
            yield name, network(*row)


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"networks_of_tests_{name}", TESTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)  # where its dataclass looks for itself
    spec.loader.exec_module(module)
    return module


def _of_module(
    make: Callable[[], torch.nn.Module], size: tuple[int, int], forms: Mapping[str, Any], bundle: Path, precision: str
) -> None:
    with _unchecked():
        export_torch(make(), torch.zeros(1, 3, *size), bundle, preprocessing="unit", **forms, **_scores(precision))


def _of_operators(make: Callable[[], torch.nn.Module], bundle: Path, precision: str) -> None:
    """Write a bundle for TensorRT of a network at opset 23."""
    torch.manual_seed(0)
    path = bundle.with_suffix(".onnx")
    write(next(way for way in WAYS if "23" in way), make().eval(), torch.zeros(1, 3, *(operators.SIZE,) * 2), path)
    with _unchecked():
        export_model(path, bundle, single_for="tensorrt", single=True, **_scores(precision))


def _of_file(path: Path, bundle: Path, precision: str) -> None:
    with _unchecked():
        export_model(path, bundle, **FORMS, **_scores(precision))


def _scores(precision: str) -> dict[str, Any]:
    int8 = {"calibrate": _noise, "symmetric": True} if precision == "int8" else {}
    return {"precision": None if precision == "fp32" else precision, **int8}


def _noise(prep: Preprocessing) -> Iterator[Float32Array]:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(3, *prep.size)).astype(np.float32) for _ in range(PICTURES))


def _unchecked() -> ExitStack:
    """Leave out the comparisons of a new bundle, which take minutes: engines do not depend on them."""
    left_out = ExitStack()
    left_out.enter_context(patch.object(assembly, "compare_logits", lambda folder, manifest, source: []))
    left_out.enter_context(patch.object(assembly, "_with_drift", lambda folder, draft, manifest, options: manifest))
    return left_out
