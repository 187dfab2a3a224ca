"""Segmenters, heat maps and embeddings in a Triton repository: their tensors, and their maps by model.py."""

import numpy as np
import onnxruntime
import pytest

from fusioncam import Box, Class, Explainer, Like, Region
from fusioncam.export import export_model

MAPS = ("fusion_cam", "grad_cam", "score_cam")
FLAT = np.zeros((12, 16), np.float32)
PART = FLAT.copy()
PART[2:7, 3:11] = 0.5
REFERENCE = np.linspace(-3, 1, 6, dtype=np.float32)
CODES = {"INTERNAL": 1, "INVALID_ARG": 3}
TYPES = {"tensor(float)": "TYPE_FP32", "tensor(int64)": "TYPE_INT64", "tensor(bool)": "TYPE_BOOL"}


@pytest.fixture(scope="module")
def bundles(target_bundle, tmp_path_factory):
    """Bundles with their single graphs, by kind."""
    made = {}

    def bundles(kind):
        if kind not in made:
            network, bundle = target_bundle(kind)
            made[kind] = tmp_path_factory.mktemp("triton") / f"{kind}.fcam"
            labels = ["sky", "road", "tree", "car"] if kind == "segment" else None
            options = {"layer": "layer", "task": network.task, "labels": labels, "single": True}
            export_model(bundle.with_suffix(".onnx"), made[kind], **options)
        return made[kind]

    return bundles


@pytest.fixture
def front_of(backend, bundles, server, write):
    """The Python model of a kind, in a repository that also has its single graph."""

    def front_of(kind):
        write(server.folder, bundles(kind), MAPS, form="both", name=kind)
        return backend.Front(server, kind)

    return front_of


@pytest.mark.parametrize("kind", ["segment", "value", "embed"])
def test_what_graphs_take_is_what_their_files_say(backend, front_of, server, kind):
    front_of(kind)
    for part in ("explain", "score", "single"):
        config = backend.read_config(server.folder / f"{kind}_{part}" / "config.pbtxt")
        session = onnxruntime.InferenceSession(server.folder / f"{kind}_{part}" / "1" / "model.onnx")
        for said, real in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
            dims = [[d if isinstance(d, int) else -1 for d in r.shape] for r in real]
            types = [backend.DataType.Name(s.data_type) for s in said]
            assert [(s.name, list(s.dims)) for s in said] == [(r.name, d) for r, d in zip(real, dims, strict=True)]
            assert types == [TYPES[r.type] for r in real]
        assert config.max_batch_size == 0
        assert not any(o.label_filename for o in config.output)
        for request in config.model_warmup:
            assert set(request.inputs) == {i.name for i in session.get_inputs()}
    counts = [dict(w.inputs)["image"].dims[0] for w in backend.read_config(
        server.folder / f"{kind}_score" / "config.pbtxt").model_warmup]  # fmt: skip
    assert counts == [1, 8]


ASKED = {
    "the class that covers most": ("segment", {}, None),
    "where a class wins": ("segment", {"class_index": 1}, Class(1)),
    "its peak": ("segment", {"class_index": 1, "peak": True}, Region(1, peak=True)),
    "a class over a region": ("segment", {"class_index": 2, "region": PART}, (2, PART)),
    "the class of a region": ("segment", {"region": PART}, (-1, PART)),
    "a heat map": ("value", {"class_index": 1}, 1),
    "the heat map of a region": ("value", {"class_index": 1, "region": PART}, (1, PART)),
    "a likeness": ("embed", {"reference": REFERENCE}, Like(REFERENCE)),
}


@pytest.mark.parametrize("case", ASKED)
def test_maps_are_those_of_the_explainer_and_of_the_single_graph(case, bundles, front_of, server, pictures):
    kind, given, target = ASKED[case]
    types = {"class_index": np.int64, "peak": np.bool_}
    inputs = {name: np.asarray(value, types.get(name, np.float32))[None] for name, value in given.items()}
    found = front_of(kind).ask({"image": pictures[0][None], "method": methods(), **inputs})
    if not isinstance(target, tuple):
        wanted = Explainer(bundles(kind), methods=MAPS).explain(pictures[0], target=target)
        assert found["class_index"][0] == wanted.class_index
        assert found["scores"][0] == pytest.approx(wanted.score, abs=1e-6)
        assert found["confidences"][0] == pytest.approx(wanted.probability, abs=1e-6)
        assert found["passes"][0] == wanted.passes.run
        for name in MAPS:
            np.testing.assert_allclose(found[name][0], wanted.maps[name], atol=1e-5)
    usual = {"class_index": np.int64(-1), "region": FLAT, "peak": np.bool_(False), "reference": REFERENCE}
    session = onnxruntime.InferenceSession(server.folder / f"{kind}_single" / "1" / "model.onnx")
    feeds = {"image": pictures[0][None]} | {n: inputs.get(n, np.asarray(v)[None]) for n, v in usual.items()}
    feeds = {i.name: feeds[i.name] for i in session.get_inputs()}
    for name in (*MAPS, "scores", "confidences", *["explained_region"] * (kind != "embed")):
        np.testing.assert_allclose(found[name], session.run([name], feeds)[0], atol=1e-4, err_msg=name)


def methods():
    return np.array([m.encode() for m in MAPS], object)


def test_a_target_for_each_picture(bundles, front_of, pictures):
    regions = np.stack([PART, FLAT])
    found = front_of("segment").ask(
        {"image": np.stack(pictures[:2]), "class_index": np.array([2, 1]), "region": regions, "method": methods()}
    )
    explainer = Explainer(bundles("segment"))
    np.testing.assert_allclose(found["explained_region"][0], PART)
    wanted = explainer.explain(pictures[1], target=Class(1))
    np.testing.assert_allclose(found["fusion_cam"][1], wanted.maps["fusion_cam"], atol=1e-5)
    assert list(found["class_index"]) == [2, 1]


BAD = {
    "no reference": ("embed", {}, "an embedding needs a reference"),
    "another length": ("embed", {"reference": REFERENCE[None, :5]}, None),
    "zeros": ("embed", {"reference": 0 * REFERENCE[None]}, "the reference is zero everywhere"),
    "a class of an embedding": ("embed", {"reference": REFERENCE[None]}, "a model that gives an embedding has no"),
    "negative": ("segment", {"region": -PART[None]}, "the weights of a region must be finite, not below zero"),
    "two regions": ("segment", {"region": np.stack([PART, PART])}, "'region' must be (1, 12, 16), not (2, 12, 16)"),
    "no such class": ("segment", {"class_index": np.array([4])}, "there is no class 4: the model has 4, 0 to 3"),
}


@pytest.mark.parametrize("case", BAD)
def test_targets_that_cannot_be_are_refused(case, front_of, pictures):
    kind, given, text = BAD[case]
    front = front_of(kind)
    if text is None:  # by Triton itself
        with pytest.raises(AssertionError):
            front.ask({"image": pictures[0][None], **given})
        return
    parameters = '{"class_index": 1}' if case == "a class of an embedding" else ""
    said, code = front.ask({"image": pictures[0][None], **given}, parameters=parameters)
    assert (said[: len(text)], code) == (text, CODES["INVALID_ARG"])
    assert "\n" not in said


def test_a_detector(backend, detectors, small_detector, server, write):
    """The detection at a box in pixels of the input, and the likeliest one."""
    x, bundle = detectors.blobs(3)[None], small_detector.bundle
    write(server.folder, bundle, MAPS, form="bls", name="boxes")
    config = backend.read_config(server.folder / "boxes" / "config.pbtxt")
    assert [i.name for i in config.input if "image" not in i.name] == ["class_index", "box", "method", "budget"]
    front, explainer = backend.Front(server, "boxes"), Explainer(bundle)
    for d in explainer.detections(x[0])[:2]:
        wanted = explainer.explain(x[0], target=Box(box=d.box))
        found = front.ask({"image": x, "box": np.array([d.box], np.float32)})
        np.testing.assert_allclose(found["fusion_cam"][0], wanted.maps["fusion_cam"], atol=1e-5)
        np.testing.assert_allclose(found["explained_box"][0], d.box_on_input, atol=1e-4)
        assert found["confidences"][0] == pytest.approx(d.score, abs=1e-5)
        assert found["class_index"][0] == d.class_index
    likeliest = explainer.detections(x[0])[0].score
    assert front.ask({"image": x})["confidences"][0] == pytest.approx(likeliest, abs=1e-5)
    said, code = front.ask({"image": x, "box": np.array([[0, 0, 1, 1]], np.float32)})
    assert (said[:31], code) == ("no detection overlaps the box (", CODES["INVALID_ARG"])


def test_exact_passes_of_int8_scores_carry_the_target(backend, server, write, target_bundle, pictures, tmp_path):
    _, bundle = target_bundle("segment")
    source, options = bundle.with_suffix(".onnx"), {"layer": "layer", "accept_drift": True}
    export_model(source, tmp_path / "small.fcam", precision="int8", calibrate=lambda _: iter(pictures), **options)
    write(server.folder, tmp_path / "small.fcam", MAPS, form="bls", name="small")
    found = backend.Front(server, "small").ask({"image": pictures[0][None], "class_index": np.array([1])})
    wanted = Explainer(tmp_path / "small.fcam").explain(pictures[0], target=Class(1))
    np.testing.assert_allclose(found["fusion_cam"][0], wanted.maps["fusion_cam"], atol=1e-5)
    assert sum(name == "small_explain" for name, _, _ in server.asked) > 2


def test_scores_in_float16_take_float32_targets(backend, server, write, target_bundle, pictures, tmp_path):
    _, bundle = target_bundle("embed")
    export_model(bundle.with_suffix(".onnx"), tmp_path / "half.fcam", layer="layer", precision="fp16")
    write(server.folder, tmp_path / "half.fcam", MAPS, form="bls", name="half")
    found = backend.Front(server, "half").ask({"image": pictures[0][None], "reference": REFERENCE[None]})
    wanted = Explainer(tmp_path / "half.fcam").explain(pictures[0], target=Like(REFERENCE))
    np.testing.assert_allclose(found["fusion_cam"][0], wanted.maps["fusion_cam"], atol=1e-5)


def test_a_profile_of_tensorrt_names_all_inputs(backend, bundles, write, server):
    write(server.folder, bundles("segment"), MAPS, form="bls", name="fast", tensorrt=True)
    config = backend.read_config(server.folder / "fast_score" / "config.pbtxt")
    (options,) = [
        dict(a.parameters) for a in config.optimization.execution_accelerators.gpu_execution_accelerator
        if a.name == "tensorrt"
    ]  # fmt: skip
    assert options["trt_profile_max_shapes"] == "image:64x3x24x32,class_index:1,region:1x12x16,peak:1"
    assert options["trt_profile_min_shapes"] == "image:1x3x24x32,class_index:1,region:1x12x16,peak:1"
