"""Rows of targets that are no top class: held against a computation in float64, and one for each of a photo."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from fusioncam import Explainer, Like, Region, Value
from fusioncam.export import export_model
from fusioncam.export.randomise import randomised_bundle
from fusioncam.manifest import read_bundle
from fusioncam.runtime.evaluation.annotations import read_annotations
from fusioncam.runtime.evaluation.evaluator import EvaluationConfig, Evaluator
from fusioncam.runtime.evaluation.metrics.faithfulness import Settings
from fusioncam.runtime.evaluation.metrics.sanity import spearman
from fusioncam.runtime.evaluation.references import one_reference
from fusioncam.runtime.photos.decode import read_image
from fusioncam.runtime.photos.model_input import preprocess
from fusioncam.runtime.prepared import prepare
from fusioncam.runtime.probes.blur import blurred

UNIT = {"size": (24, 32), "rescale": 1 / 255, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
METHODS = ("fusion_cam", "grad_cam")
HEIGHT, WIDTH, STEPS = 24, 32, 5
ALL = Settings(("drop", "insertion", "deletion", "road"), steps=STEPS, percentiles=(30, 60))


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(21)
    (tmp_path / "photos").mkdir()
    files = {f"{n}.png": tmp_path / "photos" / f"{n}.png" for n in range(3)}
    for file in files.values():
        cv2.imwrite(str(file), cv2.resize(rng.integers(0, 256, (5, 7, 3), np.uint8), (WIDTH, HEIGHT)))
    return files


def masks(*wheres):
    drawn = []
    for top, left, bottom, right in wheres:
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[top:bottom, left:right] = True
        drawn.append(mask)
    return drawn


@pytest.fixture
def coco(tmp_path):
    """Annotations of photos: masks by class, as run lengths of COCO."""

    def coco(of_photo, labels=None, classes=4):
        content = {"images": [], "annotations": [], "categories": [{"id": c, "name": str(c)} for c in range(9)]}
        for n, (photo, objects) in enumerate(of_photo.items()):
            content["images"].append({"id": n, "file_name": photo, "height": HEIGHT, "width": WIDTH})
            for c, mask in objects:
                flat = mask.T.ravel()
                ends = np.flatnonzero(np.diff(np.concatenate([[0], flat, [0]]).astype(int)))
                counts = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
                code = {"size": [HEIGHT, WIDTH], "counts": counts[:-1] if not counts[-1] else counts}
                content["annotations"].append({"image_id": n, "category_id": c, "segmentation": code})
        (tmp_path / "coco.json").write_text(json.dumps(content))
        return read_annotations(tmp_path / "coco.json", labels, classes).matched_to(of_photo)

    return coco


def rows_of(config, photos):
    return [found.row for found in Evaluator(config).rows(photos.items())]


def input_of(made, file):
    return preprocess(read_image(file), read_bundle(made.bundle).preprocessing)


def check_figures(row, explanation, x, confidence):
    """Hold the figures of a row's maps against confidences of pictures in float64."""
    for method, saliency in explanation.maps.items():
        found, curves = row["methods"][method]["metrics"], row["methods"][method]["curves"]
        before, after = confidence(x), confidence(x * saliency)
        assert found["confidence_under_map"] == pytest.approx(after, abs=1e-5)
        assert found["increase"] == (after > before)
        if before > 0:
            assert found["drop"] == pytest.approx(max(0, before - after) / before, abs=1e-4)
        place = np.argsort(np.argsort(-saliency.ravel(), kind="stable")).reshape(saliency.shape)
        shares = np.arange(STEPS + 1) / STEPS
        for metric, start, end in (("deletion", x, x * 0), ("insertion", blurred(x), x)):
            counts = (shares * saliency.size).round()
            wanted = [confidence(np.where(place < count, end, start)) for count in counts]
            assert curves[metric] == pytest.approx(wanted, abs=1e-5)
            area = np.trapezoid(wanted, counts / saliency.size)
            assert found[metric] == pytest.approx(area, abs=1e-5)
        assert found["road"] == pytest.approx((found["road_lerf"] - found["road_morf"]) / 2)


def network_confidence(made, tensors):
    def confidence(x):
        network = made.network
        return float(network.confidence(network.outputs(network.layer(x[None])), tensors))

    return confidence


@pytest.mark.parametrize("kind", ["segment", "binary"])
def test_every_default_target_of_a_segmenter_gets_a_row(target_bundle, photos, kind):
    made = target_bundle(kind)
    rows = rows_of(EvaluationConfig(made.bundle, METHODS, faithfulness=ALL), photos)
    explainer = Explainer(made.bundle, methods=METHODS)
    for photo, file in photos.items():
        defaults = explainer.targets(file)
        of_photo = [row for row in rows if row["image"] == photo]
        assert [row["class_index"] for row in of_photo] == [target.class_ for target, _, _ in defaults]
        assert {row["targets"] for row in of_photo} == {len(defaults)}
        x = input_of(made, file)
        for row, (target, score, confidence) in zip(of_photo, defaults, strict=True):
            assert (row["score"], row["probability"]) == (pytest.approx(score), pytest.approx(confidence))
            assert (row["target"], row["title"]) == (str(target.class_), f"class {target.class_}")
            region = made.network.wins(x)[target.class_]
            tensors = {"class_index": target.class_, "region": region, "peak": False}
            check_figures(row, explainer.explain(file, target=target), x, network_confidence(made, tensors))


def test_annotated_classes_are_measured_over_their_masks(target_bundle, photos, coco):
    made = target_bundle("segment")
    upper, lower = masks((2, 4, 14, 20), (12, 10, 22, 30))
    notes = coco({"0.png": [(1, upper), (3, lower)], "1.png": [(2, lower)]})
    config = EvaluationConfig(made.bundle, METHODS, faithfulness=ALL, annotations=notes, annotated=True)
    rows = rows_of(config, {name: photos[name] for name in ("0.png", "1.png")})
    assert [(row["image"], row["class_index"]) for row in rows] == [("0.png", 1), ("0.png", 3), ("1.png", 2)]
    explainer = Explainer(made.bundle, methods=METHODS)
    for row, mask in zip(rows, (upper, lower, lower), strict=True):
        file, c = photos[row["image"]], row["class_index"]
        # Cells of the maps are 2 x 2 pixels.
        shares = mask.reshape(HEIGHT // 2, 2, WIDTH // 2, 2).mean(axis=(1, 3))
        explanation = explainer.explain(file, target=Region(c, mask=mask))
        x, tensors = input_of(made, file), {"class_index": c, "region": shares, "peak": False}
        check_figures(row, explanation, x, network_confidence(made, tensors))
        assert row["title"] == f"class {c}, in the mask"
        for method, saliency in explanation.maps.items():
            found = row["methods"][method]["metrics"]
            y, z = np.unravel_index(saliency.argmax(), saliency.shape)
            assert found["pointing"] == mask[y, z]
            assert found["energy"] == pytest.approx(saliency[mask].sum() / saliency.sum(), rel=1e-5)


def test_where_a_class_wins_is_held_against_the_mask_of_that_class(target_bundle, photos, coco):
    made = target_bundle("segment")
    (mask,) = masks((4, 4, 20, 28))
    explainer = Explainer(made.bundle, methods=METHODS)
    file = photos["0.png"]
    first, second, *_ = [target.class_ for target, _, _ in explainer.targets(file)]
    config = EvaluationConfig(
        made.bundle, METHODS, faithfulness=Settings(()), annotations=coco({"0.png": [(second, mask)]})
    )
    rows = {row["class_index"]: row for row in rows_of(config, {"0.png": file})}
    assert {first, second} <= rows.keys()
    assert "pointing" not in rows[first]["methods"]["grad_cam"]["metrics"]
    saliency = explainer.explain(file, second).maps["grad_cam"]
    found = rows[second]["methods"]["grad_cam"]["metrics"]["energy"]
    assert found == pytest.approx(saliency[mask].sum() / saliency.sum(), rel=1e-5)


def test_an_object_without_a_class_is_of_the_class_that_has_most_of_it(target_bundle, photos, tmp_path):
    made = target_bundle("segment")
    (tmp_path / "notes.json").write_text(json.dumps([{"file": "0.png", "boxes": [[4, 2, 20, 14]]}]))
    notes = read_annotations(tmp_path / "notes.json", None, 4).matched_to(["0.png"])
    config = EvaluationConfig(made.bundle, METHODS, faithfulness=Settings(()), annotations=notes, annotated=True)
    (row,) = rows_of(config, {"0.png": photos["0.png"]})
    (mask,) = masks((2, 4, 14, 20))
    expected = Explainer(made.bundle, methods=METHODS).explain(photos["0.png"], target=Region(mask=mask))
    assert (row["class_index"], row["score"]) == (expected.class_index, expected.score)
    assert "pointing" in row["methods"]["grad_cam"]["metrics"]


def test_a_photo_whose_objects_are_lost_says_that_its_default_targets_count(target_bundle, photos, coco):
    made = target_bundle("segment")
    (mask,) = masks((2, 4, 14, 20))
    notes = coco({"0.png": [(7, mask)], "1.png": [(1, mask)]})
    assert any("class '7': the bundle has no labels" in problem.text for problem in notes.problems)
    config = EvaluationConfig(made.bundle, ["grad_cam"], faithfulness=Settings(()), annotations=notes, annotated=True)
    rows = rows_of(config, photos)
    found = {name: [row for row in rows if row["image"] == name] for name in photos}
    assert found["0.png"][0]["problems"] == ["no annotated object is left: its default targets were measured"]
    assert found["1.png"][0]["problems"] == found["2.png"][0]["problems"] == []
    assert len(found["1.png"]) == 1
    assert "in the mask" not in found["2.png"][0]["title"]


def as_share(confidence, x):
    """The confidence as a share of what the picture changes it from that of zeros."""
    base, whole = confidence(x * 0), confidence(x)
    return lambda picture: (confidence(picture) - base) / abs(whole - base)


def test_heat_maps_are_measured_as_shares_over_all_of_them_or_a_mask(target_bundle, photos, coco):
    made = target_bundle("value")
    (mask,) = masks((2, 4, 14, 20))
    file = photos["0.png"]
    x, explainer = input_of(made, file), Explainer(made.bundle, methods=METHODS)
    config = EvaluationConfig(made.bundle, METHODS, faithfulness=ALL)
    for n, row in enumerate(rows_of(config, {"0.png": file})):
        tensors = {"class_index": n, "region": np.ones((12, 16)), "peak": False}
        of_value = as_share(network_confidence(made, tensors), x)
        check_figures(row, explainer.explain(file, target=Value(n)), x, of_value)
        assert row["title"] == f"value {n}"
    config = replace(config, annotations=coco({"0.png": [(1, mask)]}, classes=2), annotated=True)
    (row,) = rows_of(config, {"0.png": file})
    shares = mask.reshape(12, 2, 16, 2).mean(axis=(1, 3))
    of_mask = as_share(network_confidence(made, {"class_index": 1, "region": shares, "peak": False}), x)
    check_figures(row, explainer.explain(file, target=Region(1, mask=mask)), x, of_mask)


@pytest.mark.parametrize("count", [1, 3])
def test_each_value_of_a_regression_is_measured_as_a_share(make_tiny, photos, tmp_path, count):
    made, file = make_tiny(classes=count), photos["0.png"]
    export_model(
        made.bundle.with_suffix(".onnx"), tmp_path / "values.fcam", layer="layer", preprocessing=UNIT, ending="value"
    )
    made = replace(made, bundle=tmp_path / "values.fcam")
    x, explainer = input_of(made, file), Explainer(made.bundle, methods=METHODS)
    rows = rows_of(EvaluationConfig(made.bundle, METHODS, faithfulness=ALL), {"0.png": file})
    assert [row["title"] for row in rows] == [f"value {n}" for n in range(count)]
    for n, row in enumerate(rows):
        assert row["score"] == pytest.approx(value_of(made.network, n)(x), rel=1e-4)
        check_figures(row, explainer.explain(file, target=Value(n)), x, as_share(value_of(made.network, n), x))


def value_of(network, n):
    w = {name: torch.from_numpy(array).double() for name, array in network.weights.items()}

    def of_picture(picture):
        given = torch.from_numpy(np.asarray(picture)[None]).double()
        inner = F.max_pool2d(F.relu(F.conv2d(given, w["w1"], w["b1"], padding=1)), 2)
        layer = F.relu(F.conv2d(inner, w["w2"], w["b2"], padding=1, stride=2))
        hidden = F.relu(F.linear(layer.mean((2, 3)), w["w3"], w["b3"]))
        return float(F.linear(hidden, w["w4"], w["b4"])[0, n])

    return of_picture


def test_an_embedding_is_measured_by_its_likeness_to_references(target_bundle, photos, tmp_path):
    made = target_bundle("embed")
    vector = np.random.default_rng(4).standard_normal(6).astype(np.float32)
    np.save(tmp_path / "text.npy", vector)
    explainer = Explainer(made.bundle, methods=METHODS)
    two = {name: photos[name] for name in ("0.png", "1.png")}
    for reference in (photos["2.png"], tmp_path / "text.npy"):
        references = one_reference(reference, two)
        rows = rows_of(EvaluationConfig(made.bundle, METHODS, faithfulness=ALL, references=references), two)
        assert [row["title"] for row in rows] == [f"like {reference.name}"] * 2
        assert [row["class_index"] for row in rows] == [-1, -1]
        network, of_picture = made.network, reference.suffix == ".png"
        other = network.outputs(network.layer(input_of(made, reference)[None]))[0].numpy() if of_picture else vector
        for row, file in zip(rows, two.values(), strict=True):
            explanation = explainer.explain(file, target=Like(reference))
            assert row["probability"] == pytest.approx(explanation.score)
            check_figures(row, explanation, input_of(made, file), network_confidence(made, {"reference": other}))


def test_a_photo_without_a_reference_fails_alone(target_bundle, photos):
    made = target_bundle("embed")
    references = one_reference(photos["2.png"], ["0.png"])
    rows = rows_of(EvaluationConfig(made.bundle, METHODS, references=references), photos)
    assert ["error" in row for row in rows] == [False, True, True]
    assert rows[1]["error"] == "1.png has no reference: an embedding needs one"


@pytest.mark.parametrize("kind", ["segment", "embed"])
def test_shuffled_weights_are_asked_the_same_question(target_bundle, photos, tmp_path, kind):
    made = target_bundle(kind)
    randomised_bundle(made.bundle, tmp_path / "shuffled.fcam")
    references = one_reference(photos["2.png"], photos) if kind == "embed" else one_reference(photos["2.png"], [])
    one = {"0.png": photos["0.png"]}
    config = EvaluationConfig(
        made.bundle, METHODS, faithfulness=Settings(()), random_bundle=tmp_path / "shuffled.fcam", references=references
    )
    sound, shuffled = (Explainer(b, methods=METHODS) for b in (made.bundle, tmp_path / "shuffled.fcam"))
    for row in rows_of(config, one):
        asked = Like(photos["2.png"]) if kind == "embed" else Region(row["class_index"])
        explanation = sound.explain(photos["0.png"], target=asked)
        other = shuffled.explain(photos["0.png"], target=explanation.target)
        for method in METHODS:
            found = row["methods"][method]["metrics"]["sanity"]
            assert found == pytest.approx(abs(spearman(explanation.maps[method], other.maps[method])), abs=1e-3)


@pytest.mark.parametrize(("form", "channels_of"), [("grey", 1), ("four", 4)])
def test_arrays_of_any_channels_are_measured(bundles, channels, tmp_path, form, channels_of):
    file = tmp_path / "scene.npy"
    np.save(file, channels.raw(channels_of))
    config = EvaluationConfig(bundles(form), METHODS, faithfulness=Settings(("drop", "road"), percentiles=(40,)))
    ((row, pictures),) = Evaluator(config).rows([("scene.npy", file)])
    explanation = Explainer(bundles(form), methods=METHODS).explain(file)
    assert (row["class_index"], row["size"]) == (explanation.class_index, (48, 50))
    x = prepare(file, read_bundle(bundles(form)).preprocessing).x
    for method, saliency in explanation.maps.items():
        under = Explainer(bundles(form), methods=["grad_cam"]).explain(x * saliency, explanation.class_index)
        found = row["methods"][method]["metrics"]
        assert found["confidence_under_map"] == pytest.approx(under.probability, abs=1e-5)
        assert np.isfinite(found["road"])
        assert pictures[method].shape[2] == 3
