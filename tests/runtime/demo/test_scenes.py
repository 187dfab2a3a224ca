import ast
import json
from dataclasses import replace

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest

from fusioncam.runtime.demo import MODEL, scenes
from fusioncam.runtime.demo.scenes import CLASSES, SIZE, draw_scene, render, sample_layout, sample_picture


def test_a_seed_names_one_scene():
    first, again, other = draw_scene(7, objects=2), draw_scene(7, objects=2), draw_scene(8, objects=2)
    np.testing.assert_array_equal(first.image, again.image)
    assert first.masks.keys() == again.masks.keys()
    for index, mask in first.masks.items():
        np.testing.assert_array_equal(mask, again.masks[index])
    assert (first.image != other.image).any()


def test_a_scene_is_the_same_on_any_machine():
    # Means, so that the last bit of a sine may differ from one C library to another.
    scene = draw_scene(3, objects=3)
    assert [CLASSES[index] for index in scene.masks] == ["ring", "cross", "star"]
    np.testing.assert_allclose(scene.image.mean(axis=(0, 1)), [161.56, 117.85, 173.88], atol=0.05)
    assert [int(mask.sum()) for mask in scene.masks.values()] == pytest.approx([914, 842, 478], abs=2)


@pytest.mark.parametrize("objects", [0, 1, 2, 3])
def test_scene_has_the_objects_asked_for(objects):
    for seed in range(40):
        scene = draw_scene(seed, (64, 80), objects)
        assert scene.image.shape == (64, 80, 3)
        assert scene.image.dtype == np.uint8
        assert len(scene.masks) == objects
        assert scene.class_index == next(iter(scene.masks), -1)
        assert all(mask.shape == (64, 80) and mask.dtype == np.bool_ for mask in scene.masks.values())
        assert all(mask.sum() > 30 for mask in scene.masks.values())
        assert sum(map(np.asarray, scene.masks.values()), np.zeros((64, 80), int)).max() <= 1  # disjoint


def test_every_class_is_drawn():
    assert {draw_scene(seed, (8, 8)).class_index for seed in range(100)} == set(range(len(CLASSES)))


def test_mask_is_what_removing_the_object_changes():
    for seed in range(30):
        layout = sample_layout(seed, objects=3)
        whole = render(layout)
        for index, mask in whole.masks.items():
            rest = render(replace(layout, items=tuple(i for i in layout.items if i.class_index != index)))
            change = np.abs(whole.image.astype(int) - rest.image).max(axis=2)
            rim = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
            # Inside, an object may look like a thing behind it here and there. Beyond the rim lie only the ends of
            # tips that are thinner than a pixel.
            assert (change[mask] > 8).mean() > 0.9
            assert (change[~rim] > 0).sum() <= 8


def test_object_stands_off_from_the_ground():
    for seed in range(100):
        layout = sample_layout(seed)
        scene, ground = render(layout), render(replace(layout, items=()))
        assert ground.masks == {}
        difference = np.abs(scene.image.astype(int) - ground.image).max(axis=2)
        assert (difference[scene.masks[scene.class_index]] > 10).mean() > 0.99


@pytest.mark.parametrize("seed", range(5))
def test_resolution_does_not_change_the_scene(seed):
    small, large = draw_scene(seed, (96, 96), 3), draw_scene(seed, (384, 384), 3)
    shrunk = cv2.resize(large.image, (96, 96), interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk.astype(int) - small.image).mean() < 2
    assert list(small.masks) == list(large.masks)
    for index, mask in small.masks.items():
        share = cv2.resize(large.masks[index].astype(np.float32), (96, 96), interpolation=cv2.INTER_AREA)
        assert mask[share == 1].all()
        assert not mask[share == 0].any()
        assert share.sum() == pytest.approx(mask.sum(), rel=0.05)


def test_sample_picture():
    picture = sample_picture()
    assert picture.image.shape == (384, 384, 3)
    assert len(picture.masks) == 3
    assert list(sample_picture((96, 96)).masks) == list(picture.masks)


def test_scenes_need_no_torch():
    for name in ("scenes.py", "__init__.py"):
        tree = ast.parse(MODEL.with_name(name).read_text())
        assert not any("torch" in ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom))


@pytest.fixture(scope="module")
def session():
    return onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])


def logits_of(session, images):
    pixels = np.stack(images).astype(np.float32).transpose(0, 3, 1, 2)
    return session.run(["logits"], {"image": (pixels / 255 - 0.5) / 0.25})[0]


@pytest.mark.parametrize(("objects", "wanted"), [(1, 0.95), (2, 0.9)])
def test_model_names_the_objects(session, objects, wanted):
    held_out = [draw_scene(seed, objects=objects) for seed in scenes.HELD_OUT[-300:]]
    top = np.argsort(logits_of(session, [scene.image for scene in held_out]))[:, -objects:]
    assert np.mean([set(t) == set(scene.masks) for t, scene in zip(top, held_out, strict=True)]) >= wanted


def test_model_names_the_objects_of_the_sample_picture(session):
    picture = sample_picture(SIZE)
    (logits,) = logits_of(session, [picture.image])
    assert {index for index, logit in enumerate(logits) if logit > 0} == set(picture.masks)


def test_model_file():
    model = onnx.load(MODEL)
    onnx.checker.check_model(model, full_check=True)
    assert MODEL.stat().st_size <= 1_000_000
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [18]
    assert not any(node.op_type == "BatchNormalization" for node in model.graph.node)
    image, output = model.graph.input[0], model.graph.output[0]
    assert (image.name, output.name) == ("image", "logits")
    assert [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim] == ["N", 3, *SIZE]
    assert [d.dim_param or d.dim_value for d in output.type.tensor_type.shape.dim] == ["N", len(CLASSES)]
    metadata = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert metadata["names"] == list(CLASSES)
    assert metadata["fusioncam.preprocessing"] == {
        "channel_order": "rgb",
        "rescale": 1 / 255,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "resize": "squash",
    }


def test_model_file_tells_nothing_of_where_it_was_made():
    assert not any(word in MODEL.read_bytes() for word in (b".py", b"/home", b"/root", b"/tmp", b"stack_trace"))
