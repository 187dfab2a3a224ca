import ast
import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch.nn import functional

from fusioncam.errors import OutputError
from fusioncam.runtime.demo import crowds
from fusioncam.runtime.demo.pairs import draw_pair
from fusioncam.runtime.demo.scenes import CLASSES, HELD_OUT, SIZE, draw_scene

MODELS = ("classifier", "segmenter", "embedder", "detector")

# torch's exporter warns about its own parts.
converts = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture
def training(part, monkeypatch):
    """What the trainings share, with few pictures in a batch."""
    module = part("demo.training")
    monkeypatch.setattr(module, "BATCH", 8)
    return module


@pytest.fixture(params=MODELS)
def model(part, training, request):
    """The module of each model."""
    return part(f"demo.{request.param}")


@pytest.fixture
def classifier(part, training):
    return part("demo.classifier")


@pytest.fixture
def segmenter(part, training):
    return part("demo.segmenter")


@pytest.fixture
def embedder(part, training):
    return part("demo.embedder")


@pytest.fixture
def detector(part, training):
    return part("demo.detector")


def test_training_pictures_are_not_held_out(training, model, classifier, embedder, detector, monkeypatch):
    seen = []
    drawing = (
        (classifier, "draw_scene"),
        (embedder, "draw_pair"),
        (detector, "draw_crowd"),
        (detector, "sample_layout"),
    )
    for module, name in drawing:
        draw = getattr(module, name)
        monkeypatch.setattr(module, name, lambda seed, *rest, draw=draw: seen.append(seed) or draw(seed, *rest))
    training.train(model.RECIPE, steps=2, seed=0)
    assert len(set(seen)) == 16
    assert not set(seen) & set(HELD_OUT)


def test_targets_are_the_masks_of_the_scene(classifier, training):
    scenes = classifier.Scenes(5, 8)
    for index, objects in enumerate(training.OBJECTS):
        pixels, shares = scenes[index]
        scene = draw_scene(5 + index, SIZE, objects)
        for class_index, share in enumerate(shares.numpy()):
            assert share.mean() == pytest.approx(scene.masks[class_index].mean() if class_index in scene.masks else 0)
        np.testing.assert_array_equal(pixels.numpy().transpose(1, 2, 0), scene.image)


def test_targets_of_a_pair_are_the_masks_of_what_it_shares(embedder):
    pixels, shares = embedder.Pairs(5, 2, (3,))[1]
    pair = draw_pair(6, SIZE, 3)
    for image, share, scene in zip(pixels, shares, (pair.scene, pair.reference), strict=True):
        np.testing.assert_array_equal(image.numpy().transpose(1, 2, 0), scene.image)
        assert float(share.mean()) == pytest.approx(scene.masks[pair.class_index].mean())


def test_pairs_come_again_with_the_reference_turned(embedder, monkeypatch):
    monkeypatch.setattr(embedder, "POOL", 2)
    pairs = embedder.Pairs(5, 16)
    first, (pixels, shares) = pairs[1], pairs[1 + 5 * 2]
    assert torch.equal(pixels[0], first[0][0])
    assert torch.equal(pixels[1], first[0][1].rot90(1, (1, 2)).flip(2))
    assert torch.equal(shares[1], first[1][1].rot90(1, (0, 1)).flip(1))
    assert len({pairs[n][0][1].numpy().tobytes() for n in range(0, 16, 2)}) == 8


def test_labels_are_the_ground_and_the_classes(segmenter):
    _, shares = segmenter.Scenes(0, 1, grid=SIZE)[0]
    labels = segmenter.labels_of(shares[None])[0]
    assert (labels.sum(dim=0) == 1).all()
    ((class_index, mask),) = draw_scene(0, SIZE).masks.items()
    np.testing.assert_array_equal(labels[0], ~mask)
    np.testing.assert_array_equal(labels[1 + class_index], mask)


def test_same_seed_same_model(training, model):
    first, again, other = (training.train(model.RECIPE, steps=2, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_loss_falls_where_evidence_moves_onto_the_object(classifier, monkeypatch):
    # A model whose evidence is the image itself, one channel per class.
    model = torch.nn.Sequential(torch.nn.Identity(), *classifier.build()[-3:-1], torch.nn.Linear(8, 8, bias=False))
    torch.nn.init.eye_(model[-1].weight)
    for name in ("preprocess", "spoil"):
        monkeypatch.setattr(classifier, name, lambda images: images)
    shares = torch.zeros(1, 8, 12, 12)
    shares[0, 3, 2:5, 2:5] = 1
    on, off = torch.zeros(1, 8, 12, 12), torch.zeros(1, 8, 12, 12)
    on[0, 3, 3, 3] = off[0, 3, 9, 9] = 40.0
    assert classifier.loss_of(model, on, shares) < classifier.loss_of(model, off, shares) - 1
    assert torch.isfinite(classifier.loss_of(model, on, torch.zeros_like(shares)))  # a scene without objects


def test_loss_falls_where_likeness_moves_onto_the_shared_object(embedder, monkeypatch):
    # A model whose map of vectors is the image itself.
    model = embedder.Embedder()
    model.encoder, model.project = torch.nn.Identity(), torch.nn.Linear(2, 2, bias=False)
    torch.nn.init.eye_(model.project.weight)
    for name in ("preprocess", "spoil"):
        monkeypatch.setattr(embedder, name, lambda images, *_: images)
    shares = torch.zeros(2, 2, 12, 12)
    shares[..., 2:5, 2:5] = 1
    on, off = torch.zeros(2, 2, 2, 12, 12), torch.zeros(2, 2, 2, 12, 12)
    for pair in (0, 1):
        on[pair, :, pair, 3, 3] = off[pair, :, pair, 9, 9] = 40.0
    assert embedder.loss_of(model, on, shares) < embedder.loss_of(model, off, shares) - 1
    assert embedder.loss_of(model, on, shares, place_weight=0) < 0.01  # each scene is nearest to its own reference
    assert embedder.loss_of(model, on, shares.flip(0)) == embedder.loss_of(model, on, shares)
    assert embedder.loss_of(model, torch.stack([on[:, 0], on.flip(0)[:, 1]], dim=1), shares, place_weight=0) > 5


def test_retrieval_counts_scenes_that_find_their_reference(embedder, monkeypatch):
    monkeypatch.setattr(embedder, "GALLERY", 4)

    class Corner(torch.nn.Module):
        """Knows a picture by its number; of every second pair it takes the scene for another."""

        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, images):
            self.calls += 1
            vectors = torch.eye(4)
            return vectors[[0, 0, 2, 2]] if self.calls % 2 else vectors

    assert embedder.retrieval(Corner(), 1, 8) == 0.5


def test_figures_of_a_segmenter_that_is_right(segmenter, monkeypatch):
    drawn = {}

    class Right(torch.nn.Module):
        """Answers the exact labels of the pixels, or the ground everywhere."""

        def __init__(self, blind):
            super().__init__()
            self.blind = blind

        def forward(self, images):
            labels = torch.stack([drawn[image.numpy().tobytes()] for image in images])
            return functional.one_hot(labels * (not self.blind), len(segmenter.NAMES)).permute(0, 3, 1, 2).float()

    ground = 0.0
    for pixels, shares in (segmenter.Scenes(0, 8, grid=SIZE)[n] for n in range(8)):
        labels = segmenter.labels_of(shares[None])[0].argmax(dim=0)
        drawn[pixels.numpy().tobytes()] = labels
        ground += float((labels == 0).float().mean()) / 8
    monkeypatch.setattr(segmenter, "preprocess", lambda pixels: pixels)
    assert segmenter.figures(Right(False), 8)["pixel accuracy"] == 1
    blind = segmenter.figures(Right(True), 8)
    assert blind["pixel accuracy"] == pytest.approx(ground)
    present = torch.cat([labels.flatten() for labels in drawn.values()]).unique()
    assert blind["mean IoU"] == pytest.approx(ground / len(present))


@pytest.fixture
def command(command_of, training, monkeypatch):
    module, threads = command_of("demo_model"), torch.get_num_threads()
    monkeypatch.setattr(module, "EVALUATED", 8)
    yield module
    torch.set_num_threads(threads)


# Of each model: the output's name, the shape of a row, and the names of its classes.
OUTPUTS = {
    "classifier": ("logits", (len(CLASSES),), CLASSES),
    "segmenter": ("logits", (1 + len(CLASSES), 24, 24), ("background", *CLASSES)),
    "embedder": ("embedding", (64,), None),
    "detector": ("output0", (4 + len(CLASSES), 336), None),
}


@converts
@pytest.mark.parametrize("name", MODELS)
def test_three_steps_end_to_end(name, command, training, tmp_path, capsys, monkeypatch):
    """The file holds what the demo reads of it, and computes what the network in torch does."""
    path, networks = tmp_path / "model.onnx", []

    def to_onnx(network, *options):
        networks.append(network)
        return training.to_onnx(network, *options)

    monkeypatch.setattr(command, "to_onnx", to_onnx)
    command.main([name, "--output", str(path), "--steps", "3", "--seed", "1"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]
    assert "held-out" in capsys.readouterr().out

    output, shape, names = OUTPUTS[name]
    known = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert "fusioncam.preprocessing" in known
    if name == "detector":  # its other metadata are those of Ultralytics' exports
        assert known["task"] == "detect"
        assert ast.literal_eval(known["imgsz"]) == [*crowds.SIZE]
        assert ast.literal_eval(known["names"]) == dict(enumerate(CLASSES))
    else:
        assert json.loads(known.get("names", "null")) == (names and list(names))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    for batch in (1, 3):
        images = torch.rand(batch, 3, *given.shape[2:], generator=torch.Generator().manual_seed(0))
        (found,) = session.run([output], {given.name: images.numpy()})
        assert found.shape == (batch, *shape)
        with torch.inference_mode():
            np.testing.assert_allclose(found, networks[0](images).numpy(), rtol=1e-3, atol=1e-5)


def test_a_weight_that_a_loss_has_not_is_refused(command, capsys):
    with pytest.raises(SystemExit):
        command.main(["segmenter", "--place-weight", "1"])
    assert "the segmenter has no --place-weight" in capsys.readouterr().err


def test_failed_save_leaves_the_old_file(training, tmp_path, monkeypatch):
    path = tmp_path / "shapes.onnx"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OutputError, match="disk full"):
        training.save(onnx.ModelProto(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
