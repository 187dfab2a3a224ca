import importlib.util
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from fusioncam.export import export_model, export_torch
from fusioncam.export.canonical import canonicalize
from fusioncam.export.layers.choice import survey
from fusioncam.export.reading.shapes import arrays, noise, run_all
from fusioncam.manifest import Manifest, read_bundle

HERE = Path(__file__).parent


def load(name):
    """The module in a file beside this one: with pytest's importlib mode, test modules cannot import each other."""
    full = f"export_tests_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, HERE / f"{name}.py")
        sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules[full]


FAMILIES = [load(name) for name in ("convolutional", "compact", "mobile", "tokens", "reordered")]
NETWORKS = {name: load("networks").Network(*row) for f in FAMILIES for name, row in f.NETWORKS.items()}


@dataclass(frozen=True)
class Exported:
    """A network with its ONNX file and its bundle."""

    name: str
    network: object
    source: Path
    bundle: Path
    manifest: Manifest

    @property
    def module(self):
        return self.network.make()


@pytest.fixture(scope="session")
def engines():
    """The module that builds TensorRT's engines for the benchmarks, too."""
    path = HERE.parents[1] / "benchmarks" / "engines" / "builder.py"
    spec = importlib.util.spec_from_file_location("benchmarks_engines_builder", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclass looks for itself
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def installed_builder(engines):
    """TensorRT-RTX's builder, in a process of its own; the reason where its wheel is not installed."""
    try:
        opened = engines.Builder()
    except engines.MissingBuilderError as error:
        yield str(error)
        return
    with opened:
        yield opened


@pytest.fixture(scope="session")
def builder(installed_builder):
    """TensorRT-RTX's builder; skips where its wheel is not installed."""
    if isinstance(installed_builder, str):
        pytest.skip(installed_builder)
    return installed_builder


@pytest.fixture(scope="session")
def table():
    """The module with TensorRT's table of operators; None where that is not at hand."""
    module = load("gradient/tensorrt")
    return module if module.TABLE.is_file() else None


@pytest.fixture(scope="session")
def refused(builder, table):
    """Builds the graphs of a bundle, and returns why any is refused; the table must say the same of each.

    Some graphs may only be parsed, which takes no time, but proves less.
    """

    def refused(bundle, graphs=None, parsed=()):
        lines = []
        for name in graphs or sorted(path.name for path in bundle.glob("*.onnx")):
            engine = builder.build(bundle / name, parse_only=name in parsed)
            hints = table.trt_violations(onnx.load(bundle / name)) if table else []
            assert not table or bool(hints) == bool(engine.refusal), (name, hints[:3], engine.refusal)
            assert engine.refusal or engine.layers > 0
            assert engine.refusal or name in parsed or engine.bytes > 1000
            lines += [f"{name}: {engine.refusal}"] if engine.refusal else []
        return lines

    return refused


# An architecture of each kind, to save minutes.
FEW = ("resnet_basic", "densenet", "shufflenet_v2", "mobilenet_v3", "convnext", "vit", "swin", "maxvit")


def pytest_generate_tests(metafunc):
    for name, values in (("architecture", list(NETWORKS)), ("few", FEW)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, values)


@pytest.fixture(scope="session")
def networks():
    return NETWORKS


@pytest.fixture(scope="session")
def export_of(once):
    """The network of that name, exported from torch by its default layer; once per run."""

    @cache
    def export_of(name):
        network = NETWORKS[name]

        def make(folder):
            export_torch(network.make(), torch.zeros(1, 3, *network.size), folder / f"{name}.fcam")

        bundle = once(f"architecture-{name}", make) / f"{name}.fcam"
        return Exported(name, network, bundle.with_suffix(".torch.onnx"), bundle, read_bundle(bundle))

    return export_of


@pytest.fixture(scope="session")
def middle_of(export_of, once):
    """The same by a layer in the middle, which is found by its values."""

    @cache
    def middle_of(name):
        exported = export_of(name)

        def make(folder):
            export_model(exported.source, folder / f"{name}.fcam", layer=middle_name(exported))

        bundle = once(f"middle-{name}", make) / f"{name}.fcam"
        return Exported(name, exported.network, exported.source, bundle, read_bundle(bundle))

    return middle_of


def middle_name(exported):
    """Name of the tensor that holds what the middle module gives."""
    network, classifier = exported.network, canonicalize(exported.source)
    images = noise(classifier.model, 3, seed=3)
    wanted = forward(network.make(), network.middle, torch.from_numpy(images))[1]
    wanted = as_map(wanted.detach().numpy(), network.middle_roles, network.offset, None)
    values = arrays(run_all(classifier.model, {"image": images}))
    for c in survey(classifier).candidates:
        given = as_map(values[c.value], c.layout.roles, c.layout.offset, c.layout.grid)
        if given.size == wanted.size and np.allclose(given.ravel(), wanted.ravel(), rtol=1e-3, atol=1e-4):
            return c.name
    raise AssertionError(f"no candidate holds the output of {network.middle}")


def as_map(tensor, roles, offset, grid):
    """(N, K, h, w), or (N, K, h * w) where the grid is not given."""
    if "T" in roles:
        tensor = tensor.transpose([roles.index(r) for r in "NCT"])
        cells = grid[0] * grid[1] if grid else tensor.shape[2] - offset
        tensor = tensor[:, :, offset : offset + cells]
        return tensor.reshape(*tensor.shape[:2], *grid) if grid else tensor
    return tensor.transpose([roles.index(r) for r in "NCHW"])


def forward(module, where, images):
    """Logits, and the tensor that the module called `where` gives (or takes: `NAME:input`)."""
    name, _, side = where.partition(":")
    seen = []
    hook = lambda _, inputs, output: seen.append(inputs[0] if side else output)  # noqa: E731
    handle = module.get_submodule(name).register_forward_hook(hook)
    logits = module(images)
    handle.remove()
    return logits, seen[0]


@pytest.fixture(scope="session")
def torch_gradient():
    def torch_gradient(module, where, images, classes, dtype):
        """Logits, activations and gradient by autograd, as arrays of the tensor's own axes."""
        logits, layer = forward(module.to(dtype), where, torch.from_numpy(images).to(dtype))
        picked = [logits[i].argmax() if c < 0 else c for i, c in enumerate(classes)]
        total = sum(logits[i, c] for i, c in enumerate(picked))
        (gradient,) = torch.autograd.grad(total, layer)
        return [t.detach().numpy() for t in (logits, layer, gradient)]

    return torch_gradient


@pytest.fixture(scope="session")
def to_map():
    return as_map


@pytest.fixture(scope="session")
def run():
    """Runs a graph file on the CPU; returns its outputs by name."""

    def run(path, feeds):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        names = [o.name for o in session.get_outputs()]
        return dict(zip(names, session.run(names, feeds), strict=True))

    return run


@pytest.fixture(scope="session")
def classifier():
    """Makes a small classifier by hand; see `tiny.py`."""
    return load("tiny").classifier


@pytest.fixture
def tiny(tmp_path):
    """Saves a small classifier made by hand; see `tiny.py`."""
    return lambda name="tiny.onnx", **options: load("tiny").save(tmp_path / name, **options)


@pytest.fixture(scope="session")
def rewrites():
    """What other tools make of a model file; see `rewrites.py`."""
    return load("rewrites")


@pytest.fixture(scope="session")
def dense():
    """The module with a small network of maps and vectors; see `dense.py`."""
    return load("dense")
