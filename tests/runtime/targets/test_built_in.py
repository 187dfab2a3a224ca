"""The built-in segmenter and embedder: gradients and maps of targets against torch in float64."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from onnx import numpy_helper
from torch import nn

from fusioncam import Explainer, Like, Region
from fusioncam.export import export_model
from fusioncam.runtime.demo import EMBEDDER, SEGMENTER
from fusioncam.runtime.demo.pairs import draw_pair

METHODS = ("fusion_cam", "grad_cam", "score_cam")


class Weights(dict):
    """The float weights of a model, in float64."""

    def __init__(self, path):
        arrays = {i.name: numpy_helper.to_array(i) for i in onnx.load(path).graph.initializer}
        super().__init__(
            {name: torch.from_numpy(a.copy()).double() for name, a in arrays.items() if a.dtype == np.float32}
        )

    def conv(self, name, x, stride=1):
        """A 3x3 convolution whose batch norm is folded, and ReLU."""
        return F.conv2d(x, self[f"{name}.weight"], self[f"{name}.weight_bias"], stride, 1).relu()

    def point(self, name, x):
        """A 1x1 convolution."""
        return F.conv2d(x, self[f"{name}.weight"], self[f"{name}.bias"])


class Segmenter(nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = Weights(SEGMENTER)

    def body(self, x):
        w = self.weights
        for n, stride in ((0, 2), (3, 2), (6, 1)):
            x = w.conv(f"early.{n}", x, stride)
        late = x
        for n, stride in ((0, 2), (3, 1), (6, 1), (9, 1)):
            late = w.conv(f"late.{n}", late, stride)
        late = F.interpolate(w.point("from_late", late), scale_factor=2, mode="bilinear")
        return w.conv("decoder.0", w.point("from_early", x) + late)

    def head(self, layer):
        return self.weights.point("decoder.3", layer)

    def forward(self, x):
        return self.head(self.body(x))


class Embedder(Segmenter):
    def __init__(self):
        nn.Module.__init__(self)
        self.weights = Weights(EMBEDDER)

    def body(self, x):
        for n, stride in ((0, 2), (3, 2), (6, 2), (9, 1), (12, 1)):
            x = self.weights.conv(f"encoder.{n}", x, stride)
        return x

    def head(self, layer):
        return F.normalize(layer.mean(dim=(2, 3)) @ self.weights["project.weight"].T)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """The bundles of both models."""
    folder = tmp_path_factory.mktemp("built-in")
    for model in (SEGMENTER, EMBEDDER):
        export_model(model, folder / f"{model.stem}.fcam")
    return folder


@pytest.fixture(scope="module")
def pair():
    return draw_pair(4)


def as_input(image):
    return ((image.transpose(2, 0, 1) / np.float32(255) - 0.5) / 0.25).astype(np.float32)


@pytest.fixture(params=["where it wins", "mask", "peak", "likeness"])
def case(request, pair, bundles, over, likeness):
    """The bundle, a target, the network in float64, and how the target reads its output."""
    x, c = as_input(pair.scene.image), pair.class_index
    if request.param == "likeness":
        network = Embedder()
        vector = network(torch.from_numpy(as_input(pair.reference.image)[None]).double())[0].numpy()
        return bundles / "embedder.fcam", Like(pair.reference.image), network, likeness(vector)
    network, mask = Segmenter(), pair.scene.masks[c]
    share = mask.reshape(24, 4, 24, 4).mean(axis=(1, 3))
    wins = network(torch.from_numpy(x[None]).double())[0].argmax(dim=0).numpy() == 1 + c
    target, region = {
        "where it wins": (Region(1 + c), wins),
        "mask": (Region(1 + c, mask=mask), share),
        "peak": (Region(1 + c, mask=mask, peak=True), share),
    }[request.param]
    return bundles / "segmenter.fcam", target, network, over(1 + c, region, peak=request.param == "peak")


def test_maps_of_targets(case, pair, target_oracle):
    bundle, target, network, read = case
    found = Explainer(bundle, methods=METHODS).explain(pair.scene.image, target=target)
    oracle, x = target_oracle(network, read), as_input(pair.scene.image)
    assert (found.score, found.probability) == pytest.approx(oracle.read(x), abs=1e-4)
    for method, wanted in oracle.maps(x).items():
        assert wanted.any()
        np.testing.assert_allclose(found.maps[method], wanted, rtol=0, atol=1e-4, err_msg=method)


def test_gradients_of_targets(case, pair, run_explain):
    bundle, target, network, read = case
    layer = network.body(torch.from_numpy(as_input(pair.scene.image)[None]).double()).detach().requires_grad_()
    (wanted,) = torch.autograd.grad(read(network.head(layer))[0], layer)
    found = run_explain(bundle, pair.scene.image, target)
    assert np.linalg.norm(found - wanted.numpy()) <= 1e-5 * np.linalg.norm(wanted.numpy())


@pytest.fixture
def run_explain():
    """The gradient that the explain graph gives of a target."""

    def run(bundle, image, target):
        explainer = Explainer(bundle, methods=METHODS)
        tensors = explainer.explain(image, target=target).target.tensors
        session = onnxruntime.InferenceSession(bundle / "explain.onnx", providers=["CPUExecutionProvider"])
        feeds = {name: np.asarray(tensor)[None] for name, tensor in tensors.items()}
        (gradients,) = session.run(["gradients"], {"image": as_input(image)[None], **feeds})
        return gradients

    return run
