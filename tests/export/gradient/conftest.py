import importlib.util
import sys
from pathlib import Path

import onnx
import pytest

from fusioncam.errors import UnsupportedOperatorError

HERE = Path(__file__).parent
# What TensorRT says of a gradient and may: a test's seed has a batch of its own, which no number of windows need be;
# nobody tiles five axes; and it keeps no turns of a Loop that ends by a condition alone.
KNOWN = (
    *("axis 0 with inherently negative length", "Number of dimensions (9) is not in the valid range"),
    "since no trip limit was set",
)

# What TensorRT does not take though a gradient needs it, by the operator that is differentiated. It has no ScatterND
# that adds, and so no sum over many computed places; onnxruntime gives such a node to another provider.
ADDS = ("`reduction` is not supported", "ScatterND with reduction is not supported")
UNTAKEN = {"GridSample": ADDS}


def untaken(op):
    """The words that TensorRT may use of the gradient of an operator, or of a model in text form."""
    return [words for name, known in UNTAKEN.items() if name in op for words in known]


def load(path):
    """The module in a file beside this one: with pytest's importlib mode, test modules cannot import each other."""
    name = f"gradient_tests_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def pytest_generate_tests(metafunc):
    # Each module lists its CASES as (id, operator, attributes, inputs, torch function[, options of `check`]).
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", [pytest.param(c[1:], id=c[0]) for c in metafunc.module.CASES])


@pytest.fixture(scope="session")
def harness():
    return load(HERE / "harness.py")


@pytest.fixture(scope="session")
def violations():
    """The function that lists what TensorRT would refuse; None where its table is not at hand."""
    tensorrt = load(HERE / "tensorrt.py")
    return tensorrt.trt_violations if tensorrt.TABLE.is_file() else None


@pytest.fixture(scope="session")
def refusal(installed_builder, tmp_path_factory):
    """The function that says why TensorRT's builder takes no model; of nothing, where it is not installed."""
    path = tmp_path_factory.mktemp("gradient") / "model.onnx"

    def refusal(model):
        if isinstance(installed_builder, str):
            return ""
        onnx.save(model, path)
        return installed_builder.build(path, batch=(1, 3, 3)).refusal or ""

    return refusal


@pytest.fixture(scope="session")
def check(harness, violations, refusal):
    """Hold the gradient of one operator against torch's, and its nodes against TensorRT's table and its builder."""

    def check(op, attributes, inputs, function, options=None):
        model = harness.check(op, attributes, inputs, function, **(options or {}))
        lines = violations(model) if violations else []
        ours = [line for line in lines if f" {harness.PREFIX}/" in line]
        if len(lines) > len(ours):  # TensorRT does not take the operator itself
            return model
        assert [line for line in ours if not any(known in line for known in untaken(op))] == []
        words = refusal(model)
        assert f"{harness.PREFIX}/" not in words or any(known in words for known in (*KNOWN, *untaken(op))), words
        return model

    return check


@pytest.fixture(scope="session")
def modules():
    """All test modules of this folder that list CASES."""
    loaded = [load(path) for path in sorted(HERE.glob("test_*.py"))]
    return [m for m in loaded if hasattr(m, "CASES")]


@pytest.fixture(scope="session")
def refused(harness):
    """The message with which the gradient of a model in text form, by its input x, is refused."""

    def refused(text):
        with pytest.raises(UnsupportedOperatorError) as caught:
            harness.differentiate(harness.parse(text), "x")
        return str(caught.value)

    return refused
