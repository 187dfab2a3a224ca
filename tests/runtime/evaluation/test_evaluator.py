"""A photo's row: its figures beside those worked out by hand, what it costs, and what becomes of photos that fail."""

import json

import cv2
import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.errors import UsageError
from fusioncam.export.randomise import randomised_bundle
from fusioncam.manifest import read_bundle, sha256
from fusioncam.runtime.evaluation.annotations import read_annotations
from fusioncam.runtime.evaluation.evaluator import EvaluationConfig, Evaluator
from fusioncam.runtime.evaluation.metrics.faithfulness import Settings
from fusioncam.runtime.evaluation.metrics.sanity import spearman
from fusioncam.runtime.evaluation.store.store import THUMBNAIL, plain
from fusioncam.runtime.photos.decode import read_image
from fusioncam.runtime.photos.model_input import preprocess
from fusioncam.runtime.probes.blur import blurred
from fusioncam.runtime.sessions.masked_graph import MASKS, PICTURE

METHODS = ("fusion_cam", "grad_cam", "score_cam")
STEPS = 6
SETTINGS = Settings(steps=STEPS)
HEIGHT, WIDTH = 24, 32
BOX = (8, 4, 24, 20)  # x0, y0, x1, y1


@pytest.fixture
def photos(tmp_path):
    """Six photos at the size of the model's input, none of them brighter than 200."""
    rng = np.random.default_rng(11)
    (tmp_path / "photos").mkdir()
    files = {}
    for n in range(6):
        file = tmp_path / "photos" / f"{n}.png"
        pixels = cv2.resize(rng.integers(0, 200, (6, 8, 3), np.uint8), (WIDTH, HEIGHT))
        cv2.imwrite(str(file), pixels)
        files[file.name] = file
    return files


@pytest.fixture
def annotated(tmp_path, tiny):
    """Annotations as a JSON list tells them, of one photo or more."""

    def annotated(photos, **facts):
        listed = [{"file": name, "size": [WIDTH, HEIGHT], "boxes": [BOX], **facts} for name in photos]
        (tmp_path / "notes.json").write_text(json.dumps(listed))
        return read_annotations(tmp_path / "notes.json", None, tiny.network.classes).matched_to(photos)

    return annotated


def rows_of(config, photos):
    return [found.row for found in Evaluator(config).rows(photos.items())]


def same_figures(row, other):
    return plain({**row, "seconds": None}) == plain({**other, "seconds": None})


def test_figures_equal_a_direct_computation(tiny, photos, annotated, oracle):
    photos = {"0.png": photos["0.png"]}
    config = EvaluationConfig(tiny.bundle, METHODS, faithfulness=SETTINGS, annotations=annotated(photos))
    ((row, pictures),) = Evaluator(config).rows(photos.items())
    explanation = Explainer(tiny.bundle, methods=METHODS).explain(photos["0.png"])
    x, c = preprocess(read_image(photos["0.png"]), read_bundle(tiny.bundle).preprocessing), explanation.class_index
    model = oracle(tiny.bundle)
    assert row["sha256"] == sha256(photos["0.png"])
    assert (row["image"], row["size"], row["class_index"]) == ("0.png", (HEIGHT, WIDTH), c)
    assert row["probability"] == pytest.approx(model.confidence(x, c))
    assert list(row["methods"]) == list(pictures) == list(METHODS)
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[BOX[1] : BOX[3], BOX[0] : BOX[2]] = True
    for method, saliency in explanation.maps.items():
        found, curves = row["methods"][method]["metrics"], row["methods"][method]["curves"]
        before, after = model.confidence(x, c), model.confidence(x * saliency, c)
        assert found["confidence_under_map"] == pytest.approx(after, abs=1e-6)
        assert found["drop"] == pytest.approx(max(0, before - after) / before, abs=1e-5)
        assert found["increase"] == (after > before)
        # Ends of the two ways, and by how many pixels each step changes the one into the other.
        for metric, start, end in (("deletion", x, x * 0), ("insertion", blurred(x), x)):
            place = np.argsort(np.argsort(-saliency.ravel(), kind="stable")).reshape(saliency.shape)
            shares = np.arange(STEPS + 1) / STEPS
            wanted = [model.confidence(np.where(place < s * x[0].size, end, start), c) for s in shares]
            assert curves[metric] == pytest.approx(wanted, abs=1e-6)
            assert found[metric] == pytest.approx(np.trapezoid(wanted, shares), abs=1e-6)
        y, z = np.unravel_index(saliency.argmax(), saliency.shape)
        assert found["pointing"] == float(inside[y, z])
        assert found["energy"] == pytest.approx(saliency[inside].sum() / saliency.sum(), rel=1e-5)


def test_a_class_is_chosen_by_the_annotation_or_is_the_top_one(tiny, photos, annotated):
    photos = {"0.png": photos["0.png"]}
    chances = [Explainer(tiny.bundle).explain(photos["0.png"], c).probability for c in range(tiny.network.classes)]
    first, *others = np.argsort(chances)[::-1].tolist()
    for accepted in (others[1:3], [first, others[0]]):
        notes = annotated(photos, accept_classes=accepted)
        for target in (True, False):
            config = EvaluationConfig(
                tiny.bundle, ["grad_cam"], faithfulness=Settings(()), annotations=notes, annotated=target
            )
            (row,) = rows_of(config, photos)
            explained = max(accepted, key=chances.__getitem__) if target else first
            assert row["class_index"] == explained
            assert row["probability"] == pytest.approx(chances[explained])
            assert row["accepted"] == tuple(sorted(accepted))
            # Whether the model is right shows in its top class, whichever is explained.
            assert row["correct"] == (first in accepted)
            assert ("energy" in row["methods"]["grad_cam"]["metrics"]) == (explained in accepted)


def test_a_photo_without_annotation_is_explained_by_its_top_class(tiny, photos, annotated):
    notes = annotated({"1.png": None}, accept_classes=[2]).matched_to(photos)
    rows = rows_of(
        EvaluationConfig(tiny.bundle, ["grad_cam"], faithfulness=Settings(()), annotations=notes, annotated=True),
        photos,
    )
    tops = [e.class_index for e in Explainer(tiny.bundle, methods=["grad_cam"]).explain_batch(photos.values())]
    assert [row["class_index"] for row in rows] == [tops[0], 2, *tops[2:]]
    assert [row["correct"] for row in rows] == [None, tops[1] == 2, *[None] * 4]
    assert [bool(row["methods"]["grad_cam"]["metrics"]) for row in rows] == [False, True, *[False] * 4]


def test_sanity_is_the_likeness_to_the_map_of_shuffled_weights(tiny, photos, tmp_path):
    randomised_bundle(tiny.bundle, tmp_path / "shuffled.fcam")
    config = EvaluationConfig(tiny.bundle, METHODS, faithfulness=Settings(()), random_bundle=tmp_path / "shuffled.fcam")
    one, other = (Explainer(b, methods=METHODS) for b in (tiny.bundle, tmp_path / "shuffled.fcam"))
    for row, file in zip(rows_of(config, photos), photos.values(), strict=True):
        sound = one.explain(file)
        shuffled = other.explain(file, sound.class_index)
        for method in METHODS:
            found = row["methods"][method]["metrics"]["sanity"]
            assert 0 <= found <= 1
            wanted = abs(spearman(sound.maps[method], shuffled.maps[method]))
            assert found == pytest.approx(wanted, abs=1e-3)


class Counter:
    """Counts what a session is fed; gives NaN for pictures that hold a white pixel, where asked to."""

    def __init__(self, session, poisoned=False):
        self.session, self._poisoned, self.batches = session, poisoned, []

    def run(self, outputs, feeds, *options):
        results = self.session.run(outputs, feeds, *options)
        self.batches.append(len(feeds.get(MASKS, feeds.get("image"))))
        picture = feeds.get(PICTURE, feeds.get("image"))
        if self._poisoned:
            results[0] = np.where((picture > 1.99).any((1, 2, 3))[:, None], np.nan, results[0])
        return results


@pytest.fixture
def opened(injected):
    """An Evaluator, and what its sessions count."""

    def opened(config, poisoned=""):
        with injected() as relays:
            evaluator = Evaluator(config)
        score = relays.score.session = Counter(relays.score.session, poisoned == "masked")
        explain = relays.explain.session = Counter(relays.explain.session, poisoned == "explain")
        return evaluator, score, explain

    return opened


def test_a_photo_costs_the_passes_of_its_maps_and_each_picture_of_the_metrics_once(tiny, photos, opened):
    evaluator, score, explain = opened(EvaluationConfig(tiny.bundle, METHODS, faithfulness=SETTINGS, chunk=16))
    rows = [found.row for found in evaluator.rows(photos.items())]
    of_maps = sum(row["passes"]["run"] for row in rows)
    # The picture itself, zeros and the blurred one are shared by all maps and curves.
    of_metrics = len(photos) * (3 + len(METHODS) * (1 + 2 * (STEPS - 1)))
    assert sum(score.batches) == of_maps + of_metrics
    assert sum(explain.batches) == len(photos)


def test_chunks_are_filled_across_photos(tiny, photos, opened):
    chunk = 16
    evaluator, score, _ = opened(EvaluationConfig(tiny.bundle, METHODS, faithfulness=SETTINGS, chunk=chunk))
    together = [found.row for found in evaluator.rows(photos.items())]
    shared, score.batches = score.batches, []
    alone = [found.row for photo in photos.items() for found in evaluator.rows([photo])]
    assert sum(shared) == sum(score.batches)
    assert len(shared) < len(score.batches)
    assert shared.count(chunk) > len(shared) / 2
    assert all(map(same_figures, alone, together))


def test_shuffled_weights_that_give_nan_cost_the_sanity_check_alone(tiny, photos, injected, tmp_path):
    randomised_bundle(tiny.bundle, tmp_path / "shuffled.fcam")
    settings = Settings(("drop",))
    config = EvaluationConfig(tiny.bundle, METHODS, faithfulness=settings, random_bundle=tmp_path / "shuffled.fcam")
    with injected() as relays:
        evaluator = Evaluator(config)
    shuffled = relays[tmp_path / "shuffled.fcam" / "explain.onnx"]
    shuffled.session = Counter(shuffled.session, poisoned=True)
    pixels = cv2.imread(str(photos["1.png"]))
    pixels[5:9, 5:9] = 255
    cv2.imwrite(str(photos["1.png"]), pixels)
    for found in evaluator.rows(photos.items()):
        for of_method in found.row["methods"].values():
            assert "drop" in of_method["metrics"]
            assert ("sanity" in of_method["metrics"]) == (found.row["image"] != "1.png")
            assert ("no_sanity" in of_method["flags"]) == (found.row["image"] == "1.png")


@pytest.mark.parametrize("poisoned", ["masked", "explain"])
@pytest.mark.parametrize("bad", [["0.png"], ["2.png"], ["1.png", "2.png", "5.png"]])
def test_a_photo_of_which_the_model_makes_nan_leaves_the_others_alone(tiny, photos, opened, poisoned, bad):
    config = EvaluationConfig(tiny.bundle, METHODS, faithfulness=SETTINGS, chunk=16)
    for name in bad:
        pixels = cv2.imread(str(photos[name]))
        pixels[5:9, 5:9] = 255
        cv2.imwrite(str(photos[name]), pixels)
    sound = rows_of(config, photos)
    evaluator, _, _ = opened(config, poisoned)
    rows = [found.row for found in evaluator.rows(photos.items())]
    assert [row["image"] for row in rows] == list(photos)
    for row, wanted in zip(rows, sound, strict=True):
        if row["image"] in bad:
            assert set(row) == {"image", "error"}
            assert "NaN" in row["error"]
        else:
            assert same_figures(row, wanted)


def test_photos_that_cannot_be_read_are_named(tiny, photos, capfd):
    config = EvaluationConfig(tiny.bundle, ["grad_cam"], faithfulness=SETTINGS)
    sound = rows_of(config, photos)
    photos["1.png"].write_bytes(photos["1.png"].read_bytes()[:-40])
    photos["2.png"].unlink()
    photos["3.png"].unlink()
    photos["3.png"].mkdir()
    photos["4.png"].write_bytes(b"")
    rows = rows_of(config, photos)
    assert [row["image"] for row in rows] == list(photos)
    assert same_figures(rows[0], sound[0])
    assert same_figures(rows[5], sound[5])
    for row, why in zip(rows[1:5], ("cut short", "there is no picture", "is a folder", "is empty"), strict=True):
        assert why in row["error"]
        assert row["image"] in row["error"]
        assert "\n" not in row["error"]
    assert capfd.readouterr().err == ""


def test_a_request_that_no_photo_can_meet_ends_it(tiny, photos):
    config = EvaluationConfig(tiny.bundle, ["score_cam_probability"], budget=2)
    with pytest.raises(UsageError, match="use budget exact"):
        Evaluator(config)


def test_a_budget_too_small_for_a_photo_is_its_error(tiny, photos):
    rows = rows_of(EvaluationConfig(tiny.bundle, ["group_cam"], budget=1), photos)
    assert rows
    assert all("a budget of 1 passes is too small" in row["error"] for row in rows)


def test_flags_are_those_of_their_map(make_tiny, photos):
    made = make_tiny(constant=tuple(range(12)))
    methods = ["fusion_cam", "grad_cam", "score_cam", "group_cam"]
    for row in rows_of(EvaluationConfig(made.bundle, methods, faithfulness=Settings(("drop",))), photos):
        for method in methods:
            flags = set(row["methods"][method]["flags"])
            assert {f for f in flags if f.startswith("flat_")} == {f"flat_{method}"}
            assert ("equal_contributions" in flags) == (method == "fusion_cam")
        assert "equal_contributions" in row["flags"]


def test_pictures_show_what_the_model_saw_and_are_small(tiny, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (300, 700, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "wide.png"), pixels)
    ((row, pictures),) = Evaluator(EvaluationConfig(tiny.bundle, METHODS)).rows([("wide.png", tmp_path / "wide.png")])
    assert row["size"] == (300, 700)
    assert list(pictures) == list(METHODS)
    for picture in pictures.values():
        assert picture.shape == (round(THUMBNAIL * 300 / 700), THUMBNAIL, 3)
        assert picture.dtype == np.uint8
