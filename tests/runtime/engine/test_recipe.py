"""The maps against the method written a second time: `oracle` of conftest.py."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from fusioncam import Explainer
from fusioncam.export import export_model
from fusioncam.runtime.methods import METHODS
from fusioncam.runtime.photos.model_input import as_input

TOLERANCE = 1e-4
SIGNED = {"rescale": 1 / 127.5, "mean": (1, 1, 1), "std": (1, 1, 1)}
REAL = {
    "cifar10_resnet8_32_softmax": ({"rescale": 1}, ["winml_cat.jpg", "tinygrad_car.jpg", "captum_elephant.jpg"]),
    "vww_person_mobilenetv1_025_96_logits": (
        {"rescale": 1 / 255},
        ["gradcam_both.png", "ovxai_cheetah_person.jpg", "skimage_coffee.png"],
    ),
    "mobilenetv1_050_160_logits": (SIGNED, ["winml_dog.jpg"]),
}


def assert_same(found, wanted):
    for method, array in wanted.items():
        assert found.maps[method].dtype == np.float32
        np.testing.assert_allclose(found.maps[method], array, rtol=0, atol=TOLERANCE, err_msg=method)


@pytest.mark.parametrize("class_index", range(5))
@pytest.mark.parametrize("picture", range(3))
def test_maps_are_those_of_the_method(tiny, oracle, pictures, picture, class_index):
    x = pictures[picture]
    found = Explainer(tiny.bundle).explain(x, class_index)
    assert_same(found, oracle(tiny.bundle).maps(x, class_index, *tiny.network.evidence(x, class_index)))
    assert found.maps["fusion_cam"].any()


@pytest.mark.parametrize("ending", ["Softmax", "Sigmoid"])
def test_the_gain_is_in_probabilities_of_the_models_own_kind(make_tiny, oracle, pictures, ending):
    made, x = make_tiny(ending=ending), pictures[0]
    found = Explainer(made.bundle).explain(x, 2)
    reference = oracle(made.bundle, ending.lower())
    assert_same(found, reference.maps(x, 2, *made.network.evidence(x, 2)))
    assert found.probability == pytest.approx(reference.confidence(x, 2), abs=1e-6)


def test_a_picture_goes_through_the_preprocessing(tiny, oracle):
    photo = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    x = ((photo.transpose(2, 0, 1) / 255 - 0.5) / 0.25).astype(np.float32)
    assert_same(Explainer(tiny.bundle).explain(photo, 1), oracle(tiny.bundle).maps(x, 1, *tiny.network.evidence(x, 1)))


@pytest.mark.parametrize(
    "methods", [("grad_cam",), ("score_cam",), ("fusion_cam",), ("score_cam", "grad_cam"), METHODS]
)
def test_each_method_comes_alone_as_in_company(tiny, pictures, counted, methods):
    explainer, counter = counted(tiny.bundle, methods=methods)
    found, every = explainer.explain(pictures[0], 1), Explainer(tiny.bundle).explain(pictures[0], 1)
    assert list(found.maps) == list(methods)
    for method in methods:
        np.testing.assert_allclose(found.maps[method], every.maps[method], atol=1e-6)
    live = 9
    passes = live + 1 + 3 if "fusion_cam" in methods else live + 1 if "score_cam" in methods else 0
    assert counter.pictures == found.passes.run == passes


def closed_form(source, layer, x, class_index):
    """Activations, and the gradient of a head that is a global average and one linear operator."""
    model = onnx.load(source)
    weights = next(
        array
        for node in reversed(model.graph.node)
        if node.op_type in ("Gemm", "Conv")
        for array in [numpy_helper.to_array(t) for t in model.graph.initializer if t.name == node.input[1]]
    )
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(layer))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    activations = session.run([layer], {session.get_inputs()[0].name: x[None]})[0][0].astype(np.float64)
    weight = weights.reshape(len(weights), -1)[class_index].astype(np.float64)
    return activations, np.broadcast_to(weight[:, None, None] / activations[0].size, activations.shape)


@pytest.mark.parametrize("name", REAL)
def test_real_models(shared_assets, tmp_path, oracle, name):
    source = shared_assets / "models" / f"{name}.onnx"
    preprocessing, photos = REAL[name]
    manifest = export_model(source, tmp_path / "b.fcam", preprocessing=preprocessing)
    explainer, reference = Explainer(tmp_path / "b.fcam"), oracle(tmp_path / "b.fcam")
    for photo in photos:
        path = shared_assets / "images" / photo
        _, x = as_input(path, manifest.preprocessing)
        classes = [int(reference.logits(x).argmax())]
        classes += [1 - classes[0]] if manifest.classes == 2 else []
        for c in classes:
            found = explainer.explain(path, c)
            assert_same(found, reference.maps(x, c, *closed_form(source, manifest.layer.name, x, c)))


def test_an_fp16_model_gives_float32_maps(shared_assets, tmp_path):
    source = shared_assets / "models" / "squeezenet11_fp16_orig.onnx"
    export_model(source, tmp_path / "b.fcam", preprocessing=SIGNED)
    found = Explainer(tmp_path / "b.fcam", methods=["grad_cam"]).explain(shared_assets / "images" / "winml_cat.jpg")
    assert found.maps["grad_cam"].dtype == np.float32
    assert found.maps["grad_cam"].max() == 1
