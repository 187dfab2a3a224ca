"""The benchmark's networks: their sizes, their graphs, and what a torch network does in onnxruntime's place."""

import numpy as np
import onnxruntime
import pytest
import torch

from fusioncam.kernels.device import empty
from fusioncam.runtime.sessions.open import open_session


@pytest.mark.parametrize(
    ("name", "parameters", "layer"),
    [
        ("resnet18", 11_689_512, (512, 7, 7)),
        ("resnet50", 25_557_032, (2048, 7, 7)),
        ("mobilenetv2", 3_504_872, (1280, 7, 7)),
    ],
)
def test_the_networks_have_the_published_sizes(part, name, parameters, layer):
    kind = part("networks").NETWORKS[name]
    with torch.device("meta"):
        network = kind.build(kind.classes)
        features = network.features(torch.zeros(1, 3, kind.size, kind.size))
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert features.shape[1:] == layer


@pytest.mark.parametrize("name", ["residual", "mobile"])
def test_the_graph_is_the_network(part, lab, small, tmp_path, name):
    network, size = lab.network(name), small[name].size
    x = np.random.default_rng(0).standard_normal((3, 3, size, size)).astype(np.float32)
    path = part("graph").save(network, size, small[name].classes, tmp_path / "n.onnx")
    (found,) = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"image": x})
    np.testing.assert_allclose(found, network(torch.from_numpy(x)).numpy(), rtol=1e-5, atol=2e-5)
    _, manifest = lab.bundle(name, "fp32")
    assert manifest.layer.shape == tuple(network.features(torch.from_numpy(x)).shape[1:])


def test_a_graph_of_an_unknown_module_is_refused(part):
    with pytest.raises(TypeError, match="no node for Dropout"):
        part("graph").Graph().emit(torch.nn.Dropout(), "image")


@pytest.mark.parametrize("name", ["residual", "mobile"])
def test_the_warm_up_may_meet_any_class(part, lab, name):
    x, never = torch.from_numpy(lab.input(name))[None], torch.tensor([1 << 40])
    found = part("torch_backend").explaining(lab.network(name))(image=x, class_index=never)
    assert found["gradients"].isfinite().all()


@pytest.mark.parametrize("name", ["residual", "mobile"])
def test_calibration_makes_activations_and_logits_sane(lab, small, name):
    network, size = lab.network(name), small[name].size
    x = torch.from_numpy(lab.input(name))[None]
    assert network(torch.zeros(1, 3, size, size)).abs().max() < 1e-4
    features = network.features(x)
    assert features.std() > 0.05
    assert (features.amax((0, 2, 3)) > features.amin((0, 2, 3))).all(), "a channel without response needs no pass"
    assert network(x).std() > 1


@pytest.mark.parametrize("name", ["residual", "mobile"])
@pytest.mark.parametrize("asked", [-1, 2])
def test_torch_in_the_place_of_the_explain_graph(part, lab, host_device, name, asked):
    backend, stream = part("torch_backend"), host_device.stream()
    folder, manifest = lab.bundle(name, "fp32")
    x, index = lab.input(name)[None], np.array([asked], np.int64)
    wanted = open_session(folder / "explain.onnx").run(None, {"image": x, "class_index": index})
    session = backend.TorchSession(backend.explaining(lab.network(name)), False, host_device, stream)

    binding, arrays = session.io_binding(), {}
    layer = (1, *manifest.layer.shape)
    shapes = {"logits": (1, manifest.classes), "activations": layer, "gradients": layer}
    for key, array in {"image": x, "class_index": index}.items():
        arrays[key] = empty(host_device, array.shape, array.dtype)
        host_device.upload(array, arrays[key].pointer, stream)
        binding.bind_input(key, "cpu", 0, array.dtype.type, array.shape, arrays[key].pointer)
    for key, shape in shapes.items():
        arrays[key] = empty(host_device, shape, np.float32)
        binding.bind_output(key, "cpu", 0, np.float32, shape, arrays[key].pointer)
    session.run_with_iobinding(binding)
    for key, right in zip(shapes, wanted, strict=True):
        found = np.empty(shapes[key], np.float32)
        host_device.download(arrays[key].pointer, found, stream)
        np.testing.assert_allclose(found, right, rtol=1e-5, atol=2e-5, err_msg=key)
        assert right.any()
