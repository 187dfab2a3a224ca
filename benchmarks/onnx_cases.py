"""The cases of ONNX's own test suite, as models with inputs."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from differences import Arrays
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests

from fusioncam.kernels.arrays import Array

OLDEST = 7


def cases(only: Sequence[str] = ()) -> list[TestCase]:
    """Return the cases whose name contains one of `only`, or all."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):  # some cases divide by zero on purpose
        warnings.simplefilter("ignore")
        found = [*collect_testcases(), *load_model_tests(kind="pytorch-operator")]
    return sorted((c for c in found if not only or any(o in c.name for o in only)), key=lambda c: str(c.name))


def opened(case: TestCase) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Return the model of a case and its inputs by name.

    Raises:
        ValueError: An input is no tensor.
    """
    if case.model is not None:
        assert case.data_sets is not None
        model, given = case.model, list(case.data_sets[0][0])
    else:
        folder = Path(str(case.model_dir))
        model = onnx.load(folder / "model.onnx")
        files = sorted(folder.glob("test_data_set_0/input_*.pb"), key=lambda p: int(p.stem.split("_")[1]))
        given = [numpy_helper.to_array(onnx.TensorProto.FromString(f.read_bytes())) for f in files]
    inner = {i.name for i in model.graph.initializer}
    names = [i.name for i in model.graph.input if i.name not in inner]
    if len(given) > len(names):  # weights are listed with the inputs
        names = [i.name for i in model.graph.input]
    given = [numpy_helper.to_array(v) if isinstance(v, onnx.TensorProto) else v for v in given]
    arrays = dict(zip(names, given, strict=True))
    if not all(isinstance(a, np.ndarray | np.generic) for a in arrays.values()):
        raise ValueError("an input is no tensor")
    return at_least_oldest(model), {k: np.asarray(v) for k, v in arrays.items()}


def at_least_oldest(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model of the suite's oldest cases, of opset 6, at the oldest that is supported."""
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), OLDEST)
    return onnx.version_converter.convert_version(model, OLDEST) if version < OLDEST else model


def fixed(model: onnx.ModelProto, inputs: Arrays, free: str) -> onnx.ModelProto:
    """Return the model with every input but one made a constant: rules ask for constant weights, axes and shapes."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kept = [i for i in copy.graph.input if i.name == free]
    inner = [i for i in copy.graph.initializer if i.name != free and i.name not in inputs]
    values = [numpy_helper.from_array(v, k) for k, v in inputs.items() if k != free]
    del copy.graph.input[:], copy.graph.initializer[:]
    copy.graph.input.extend(kept)
    copy.graph.initializer.extend([*inner, *values])
    return copy
