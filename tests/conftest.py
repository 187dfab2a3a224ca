"""Small networks with known weights, and their bundles."""

import functools
import importlib.util
import platform
import shutil
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from onnx import TensorProto, helper, numpy_helper

from fusioncam import Explainer
from fusioncam.export import export_model
from fusioncam.manifest import CHUNK
from fusioncam.runtime.engine import Pipeline
from fusioncam.runtime.sessions import chunk_tuning as tuning
from fusioncam.runtime.sessions.masked_graph import MASKS
from fusioncam.runtime.sessions.open import open_session

UNIT = {"size": (24, 32), "rescale": 1 / 255, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


@dataclass
class Tiny:
    """Conv, Relu, MaxPool, Conv, Relu, pool, Gemm, Relu, Gemm; input 3 x 24 x 32, layer K x 6 x 8.

    Attributes:
        channels: K.
        classes: Number of classes.
        zero: Channels whose activation is zero everywhere.
        constant: Channels whose activation is 0.7 everywhere.
        weights: By name; change them before the network is written.
    """

    channels: int = 12
    classes: int = 5
    zero: tuple[int, ...] = ()
    constant: tuple[int, ...] = ()
    ending: str | None = None
    weights: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self):
        rng = np.random.default_rng(7)
        shapes = {
            "w1": (8, 3, 3, 3),
            "w2": (self.channels, 8, 3, 3),
            "w3": (16, self.channels),
            "w4": (self.classes, 16),
        }
        for name, shape in shapes.items():
            # The scale keeps the classes apart: contributions near zero would be ill-conditioned.
            scale = 2.0 / np.sqrt(np.prod(shape[1:]))
            self.weights[name] = (rng.standard_normal(shape) * scale).astype(np.float32)
            self.weights["b" + name[1:]] = (rng.standard_normal(shape[0]) * 0.3).astype(np.float32)
        self.weights["b2"] += 1  # or chance would leave more channels without a response
        for channel in (*self.zero, *self.constant):
            self.weights["w2"][channel] = 0
            self.weights["b2"][channel] = -1 if channel in self.zero else 0.7

    def write(self, path):
        nodes = [
            helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], pads=[1] * 4),
            helper.make_node("Relu", ["c1"], ["r1"]),
            helper.make_node("MaxPool", ["r1"], ["m1"], kernel_shape=[2, 2], strides=[2, 2]),
            helper.make_node("Conv", ["m1", "w2", "b2"], ["c2"], pads=[1] * 4, strides=[2, 2]),
            helper.make_node("Relu", ["c2"], ["layer"]),
            helper.make_node("GlobalAveragePool", ["layer"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("Gemm", ["flat", "w3", "b3"], ["hidden"], transB=1),
            helper.make_node("Relu", ["hidden"], ["kept"]),
            helper.make_node("Gemm", ["kept", "w4", "b4"], ["out" if self.ending is None else "logit"], transB=1),
        ]
        if self.ending is not None:
            nodes.append(helper.make_node(self.ending, ["logit"], ["out"]))
        graph = helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 24, 32])],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", self.classes])],
            [numpy_helper.from_array(w, n) for n, w in self.weights.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, path)
        return path

    def evidence(self, x, class_index):
        """Activations and gradients (K, h, w) by torch's own differentiation, in float64."""
        w = {name: torch.from_numpy(array).double() for name, array in self.weights.items()}
        inner = F.max_pool2d(F.relu(F.conv2d(torch.from_numpy(x[None]).double(), w["w1"], w["b1"], padding=1)), 2)
        layer = F.relu(F.conv2d(inner, w["w2"], w["b2"], padding=1, stride=2)).detach().requires_grad_(True)
        logits = F.linear(F.relu(F.linear(layer.mean((2, 3)), w["w3"], w["b3"])), w["w4"], w["b4"])
        (gradient,) = torch.autograd.grad(logits[0, class_index], layer)
        return layer.detach().numpy()[0], gradient.numpy()[0]


class Relay:
    """Takes the place of a session, and passes on to it; tests put another one into `session`."""

    def __init__(self, session):
        self.session = session

    def __getattr__(self, name):
        return getattr(self.session, name)

    def run(self, *arguments):
        return self.session.run(*arguments)


class Relays(dict):
    """The relays of all sessions by path; `explain` and `score` are those of the first bundle."""

    def first(self, graph):
        return next(relay for path, relay in self.items() if path.name == graph)

    explain = property(lambda self: self.first("explain.onnx"))
    score = property(lambda self: self.first("score.onnx"))


class Counter:
    """A session that counts the pictures it is fed, and keeps the sizes of its batches."""

    def __init__(self, session):
        self.session, self.batches = session, []

    def run(self, outputs, feeds):
        self.batches.append(len(feeds[MASKS]))
        return self.session.run(outputs, feeds)

    pictures = property(lambda self: sum(self.batches))


@dataclass(frozen=True)
class Made:
    """A tiny network and its bundle."""

    network: Tiny
    bundle: Path


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_measured_or_remembered(tmp_path_factory):
    """Tests leave the user's cache alone, and take the same chunk wherever they run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FUSIONCAM_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(tuning, "SIZES", (CHUNK,))
        yield


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """Makes a folder once for all processes of a run, by its name; see `once.py`."""
    return load(Path(__file__).with_name("once.py")).Shared(tmp_path_factory)


@pytest.fixture(scope="session")
def make_tiny(tmp_path_factory):
    """Builds, writes and exports a `Tiny`; `change(weights)` alters its weights in place first."""

    def make(change=None, **facts):
        network = Tiny(**facts)
        if change is not None:
            change(network.weights)
        folder = tmp_path_factory.mktemp("tiny")
        model = network.write(folder / "tiny.onnx")
        export_model(model, folder / "tiny.fcam", layer="layer", preprocessing=UNIT)
        return Made(network, folder / "tiny.fcam")

    return make


@pytest.fixture(scope="session")
def tiny(make_tiny):
    """Channels 1 and 5 are zero, channel 3 is 0.7 everywhere."""
    return make_tiny(zero=(1, 5), constant=(3,))


def export_int8(source, folder, pictures, symmetric):
    options = {"precision": "int8", "calibrate": lambda prep: iter(pictures), "symmetric": symmetric}
    export_model(source, folder / "tiny.fcam", layer="layer", preprocessing=UNIT, **options)
    return folder / "tiny.fcam"


@pytest.fixture(scope="session")
def tiny_int8(make_tiny, pictures, tmp_path_factory):
    """The bundle of the same network as `tiny`, with scores in int8."""
    source = make_tiny(zero=(1, 5), constant=(3,)).bundle.with_suffix(".onnx")
    return export_int8(source, tmp_path_factory.mktemp("int8"), pictures, False)


@pytest.fixture(scope="session")
def symmetric_int8(make_tiny, pictures, tmp_path_factory):
    """The same bundle, with every zero point zero."""
    source = make_tiny(zero=(1, 5), constant=(3,)).bundle.with_suffix(".onnx")
    return export_int8(source, tmp_path_factory.mktemp("symmetric"), pictures, True)


@pytest.fixture(scope="session")
def oracle():
    """The method, written a second time."""
    return load(Path(__file__).with_name("oracle.py")).Oracle


@pytest.fixture(scope="session")
def several(tmp_path_factory):
    """Exports a model of several inputs by its name in `MODELS`, once."""
    export = load(Path(__file__).with_name("several_inputs.py")).export
    return functools.cache(lambda name: export(name, tmp_path_factory.mktemp(name)))


@contextmanager
def injected_sessions(**injected):
    """Have what is opened meanwhile take sessions that relay, and what else is injected; gives the relays."""
    relays = Relays()

    def open_relay(path, *arguments, **options):
        relays[path] = Relay(open_session(path, *arguments, **options))
        return relays[path]

    with pytest.MonkeyPatch.context() as patch:
        plain, changes = Pipeline.open, {"open_session": open_relay, **injected}
        patch.setattr(Pipeline, "open", lambda bundles, options, *a: plain(bundles, replace(options, **changes), *a))
        yield relays


@pytest.fixture(scope="session")
def injected():
    return injected_sessions


@pytest.fixture(scope="session")
def relayed():
    """Opens an Explainer and the relays of its sessions."""

    def open_relayed(bundle, **options):
        with injected_sessions() as relays:
            return Explainer(bundle, **options), relays

    return open_relayed


@pytest.fixture(scope="session")
def counted(relayed):
    """Opens an Explainer and the counter of the pictures its score graph is fed."""

    def open_counted(bundle, **options):
        explainer, relays = relayed(bundle, **options)
        counter = relays.score.session = Counter(relays.score.session)
        return explainer, counter

    return open_counted


@pytest.fixture(scope="session")
def pictures():
    """Preprocessed inputs of the tiny networks: noise with a bright blob, each its own."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:24, :32]
    blobs = [np.exp(-((y - a) ** 2 + (x - b) ** 2) / 30) for a, b in ((6, 8), (16, 22), (12, 4))]
    return [(rng.standard_normal((3, 24, 32)) * 0.5 + 2 * blob).astype(np.float32) for blob in blobs]


@pytest.fixture(scope="session")
def free_nets():
    """The module of networks that leave height and width open."""
    return load(Path(__file__).with_name("free_nets.py"))


@pytest.fixture(scope="session")
def shared_assets():
    """The folder of real models and photos beside the checkout; tests that need it are skipped without it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "assets"
    if not (folder / "models").is_dir():
        pytest.skip("the shared models are not here")
    return folder


@pytest.fixture(scope="session")
def shim():
    """The module that compiles the CUDA kernels for the CPU and runs them; skips where that cannot be."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("the shim for CUDA kernels is for Linux on x86-64")
    if shutil.which("g++") is None:
        pytest.skip("there is no g++")
    return load(Path(__file__).parent / "shim" / "host.py")


@pytest.fixture(scope="session")
def compiler(shim, tmp_path_factory):
    """Compiles the CUDA kernels for the CPU."""
    return shim.Compiler(tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="session")
def host_device(shim, compiler):
    """A device as the kernels' launchers see it, on the CPU."""
    return shim.HostDevice(compiler.library("plain"))


def load(path):
    """The module in a file: with pytest's importlib mode, test modules cannot import each other."""
    name = f"shared_tests_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


load(Path(__file__).with_name("one_thread.py")).apply()
target_bundle = load(Path(__file__).with_name("target_models.py")).target_bundle
of_detectors = load(Path(__file__).with_name("detector_models.py"))
detectors, small_detector = of_detectors.detectors, of_detectors.small_detector
