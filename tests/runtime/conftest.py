"""What the tests of the command line share: a model, a bundle, pictures, and a way to run a command."""

import importlib.util
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fusioncam import Explainer
from fusioncam.runtime.commands import app as cli
from fusioncam.runtime.methods import METHODS
from fusioncam.runtime.sessions.open import open_session

LABELS = ("tabby, tabby cat", "Egyptian cat", "crane", "crane")


def save_model(path: Path, channels: int = 6, size: int = 24, bad: str = "") -> Path:
    """Conv - Relu - pool - Gemm - Softmax, of four classes."""
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(channels, 3, 3, 3)).astype(np.float32)
    if bad == "nan":
        weights[0, 0, 0, 0] = np.nan
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["conv"], "conv_node", pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Relu", ["conv"], ["features"], "relu_node"),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "v"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["output"]),
    ]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, size, size])]
    if bad == "two inputs":
        inputs.append(helper.make_tensor_value_info("second", TensorProto.FLOAT, ["N", 3, size, size]))
        nodes.append(helper.make_node("Identity", ["second"], ["unused"]))
    if bad == "no rule":
        nodes[3:3] = [
            helper.make_node("Transpose", ["pooled"], ["moved"], perm=[0, 2, 3, 1]),
            helper.make_node("Det", ["square"], ["d"], "det_node"),
            helper.make_node("Add", ["pooled", "d4"], ["raised"]),
        ]
        nodes.insert(3, helper.make_node("MatMul", ["features", "features"], ["square"]))
        nodes.insert(6, helper.make_node("Unsqueeze", ["d", "axes"], ["d4"]))
        nodes[8].input[0] = "raised"
    constants = {"w": weights, "v": rng.normal(size=(channels, 4)).astype(np.float32)}
    if bad == "no rule":
        constants["axes"] = np.array([2, 3], np.int64)
    graph = helper.make_graph(
        nodes,
        "tiny",
        inputs,
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def _load(name):
    spec = importlib.util.spec_from_file_location(f"runtime_tests_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def channels():
    """Models of any number of channels, and arrays for them: the module in `channels.py`."""
    return _load("channels")


@pytest.fixture(scope="session")
def bundles(channels, tmp_path_factory):
    """The bundle of such a model, by its form and the options of the export; made once."""
    made = {}

    def bundle(form, **options):
        key = (form, repr(options))
        if key not in made:
            made[key] = channels.bundle_of(form, tmp_path_factory.mktemp("channels"), **options)
        return made[key]

    return bundle


@pytest.fixture(scope="session")
def make_model():
    """Saves a model of four classes, sound or bad in one way."""
    return save_model


@pytest.fixture(scope="session")
def only_line():
    """The one line of an error, without a traceback."""

    def only_line(err):
        lines = err.strip().splitlines()
        assert len(lines) == 1, err
        assert lines[0].startswith("error: ")
        return lines[0]

    return only_line


@pytest.fixture(scope="session")
def listing():
    """Every file and folder below a folder, with its size."""
    return lambda folder: {str(p): p.stat().st_size for p in folder.rglob("*")}


@pytest.fixture(scope="session")
def load_maps():
    """The maps of an .npz, by method."""

    def load_maps(path):
        with np.load(path) as archive:
            return dict(archive)

    return load_maps


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    save_model(folder / "tiny.onnx")
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
    rng = np.random.default_rng(0)
    for name in ("one.png", "two.jpg"):
        cv2.imwrite(str(folder / name), rng.integers(0, 256, (40, 60, 3), np.uint8))
    return folder


@pytest.fixture
def run(capsys, monkeypatch, work):
    """Run one command inside this process; gives (status, standard output, standard error)."""
    monkeypatch.chdir(work)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["fusioncam", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        printed = capsys.readouterr()
        return end.value.code, printed.out, printed.err

    return call


@pytest.fixture
def bundle(run, work):
    if not (work / "tiny.fcam").exists():
        status, _, err = run("export", "tiny.onnx", "--preset", "unit", "--labels", "labels.txt")
        assert status == 0, err
    return work / "tiny.fcam"


@pytest.fixture
def on_device(host_device, injected):
    """Opens an Explainer whose arrays stay on the device."""

    def open_explainer(bundle, methods=METHODS, chunk=None, **options):
        with injected(device=host_device, open_session=open_session):
            return Explainer(bundle, methods=methods, chunk=chunk, **options)

    return open_explainer
