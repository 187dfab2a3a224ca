import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from fusioncam.errors import OutputError
from fusioncam.runtime.demo.scenes import CLASSES, HELD_OUT, SIZE, draw_scene


@pytest.fixture
def train(part, monkeypatch):
    """The training, with few scenes in a batch."""
    module = part("demo_model")
    monkeypatch.setattr(module, "BATCH", 8)
    return module


def test_training_scenes_are_not_held_out(train, monkeypatch):
    seen = []
    monkeypatch.setattr(train, "draw_scene", lambda seed, *rest: seen.append(seed) or draw_scene(seed, *rest))
    train.train(steps=2, seed=0)
    assert len(set(seen)) == 16
    assert not set(seen) & set(HELD_OUT)


def test_targets_are_the_masks_of_the_scene(train):
    scenes = train.Scenes(5, 8)
    for index, objects in enumerate(train.OBJECTS):
        pixels, shares = scenes[index]
        scene = draw_scene(5 + index, SIZE, objects)
        for class_index, share in enumerate(shares.numpy()):
            assert share.mean() == pytest.approx(scene.masks[class_index].mean() if class_index in scene.masks else 0)
        np.testing.assert_array_equal(pixels.numpy().transpose(1, 2, 0), scene.image)


def test_same_seed_same_model(train):
    first, again, other = (train.train(steps=2, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_loss_falls_where_evidence_moves_onto_the_object(train):
    # A model whose evidence is the image itself, one channel per class.
    model = torch.nn.Sequential(torch.nn.Identity(), *train.build_model()[-3:-1], torch.nn.Linear(8, 8, bias=False))
    torch.nn.init.eye_(model[-1].weight)
    shares = torch.zeros(1, 8, 12, 12)
    shares[0, 3, 2:5, 2:5] = 1
    on, off = torch.zeros(1, 8, 12, 12), torch.zeros(1, 8, 12, 12)
    on[0, 3, 3, 3] = off[0, 3, 9, 9] = 40.0
    assert train.loss_of(model, on, shares) < train.loss_of(model, off, shares) - 1
    assert torch.isfinite(train.loss_of(model, on, torch.zeros_like(shares)))  # a scene without objects


# torch's exporter warns about its own parts.
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_three_steps_end_to_end(train, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "EVALUATED", 8)
    path = tmp_path / "shapes.onnx"
    train.main(["--output", str(path), "--steps", "3", "--seed", "1"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["shapes.onnx"]
    assert "held-out accuracy" in capsys.readouterr().out

    names = {entry.key: entry.value for entry in onnx.load(path).metadata_props}["names"]
    assert json.loads(names) == list(CLASSES)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        images = np.zeros((batch, 3, *SIZE), np.float32)
        assert session.run(None, {"image": images})[0].shape == (batch, len(CLASSES))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_onnx_computes_what_torch_does(train):
    model = train.train(steps=2)
    images = torch.randn(3, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(train.to_onnx(model).SerializeToString(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": images.numpy()})
    with torch.inference_mode():
        np.testing.assert_allclose(logits, model(images).numpy(), rtol=1e-3, atol=1e-5)


def test_failed_save_leaves_the_old_file(train, tmp_path, monkeypatch):
    path = tmp_path / "shapes.onnx"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OutputError, match="disk full"):
        train.save(onnx.ModelProto(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
