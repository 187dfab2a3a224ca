"""Targets that a user asks for, checked and resolved, and errors of those that make no sense."""

import json
import pickle

import numpy as np
import pytest

from fusioncam import Class, Explainer, Like, Region, UsageError, Value
from fusioncam.runtime.targets.tasks import checked_target


@pytest.fixture
def explainer(made):
    """Opens the Explainer of a network by Grad-CAM, which takes no masked passes."""
    return lambda name, **options: Explainer(made(name).bundle, methods=["grad_cam"], **options)


@pytest.mark.parametrize(
    ("name", "asked", "words"),
    [
        ("segment", Class(4), "there is no class 4: the model has 4"),
        ("segment", "dog", "no class is called 'dog'"),
        ("segment", Like([1.0]), "Like does not fit a model that segments: use Region"),
        ("segment", Value(0), "Value does not fit a model that segments: use Region"),
        ("segment", Region(0, np.ones((2, 2)), (1, 2)), "a mask or a point, not both"),
        ("classes", Value(0), "Value does not fit a model that classifies: use Class"),
        ("classes", Region(0), "Region does not fit a model that classifies: use Class"),
        ("classes", Class(1.5), "class_index must be a whole number or a name"),
        ("values", Value(3), "there is no value 3: the model gives 3, from 0 on"),
        ("values", Value(True), "there is no value True"),
        ("one", Value(1), "there is no value 1: the model gives 1"),
        ("heat", Like([1.0]), "Like does not fit a model that gives heat maps: use Value or Region"),
        ("heat", Value(2), "there is no value 2"),
        ("embed", Class(0), "a model that gives an embedding has no classes: use Like"),
        ("embed", 3, "has no classes"),
        ("embed", Region(0), "Region does not fit a model that gives an embedding: use Like"),
        ("embed", Like(np.ones(6)), "the reference has 6 numbers, but the embedding 7"),
        ("embed", Like([1.0, np.nan, 0, 0, 0, 0, 0]), "the reference holds NaN"),
        ("embed", Like(np.zeros(7)), "zero everywhere"),
        ("embed", Like(["a"] * 7), "a reference is a vector of numbers or a picture"),
        ("embed", Like("none.npy"), "cannot read 'none.npy'"),
    ],
)
def test_targets_that_do_not_fit_the_model(name, asked, words, made, explainer, pictures):
    with pytest.raises(UsageError, match=words):
        checked_target(explainer(name).manifest, asked)
    with pytest.raises(UsageError, match=words):
        explainer(name).explain(pictures[0], target=asked)
    with pytest.raises(UsageError, match=words):  # before any picture is opened
        explainer(name).explain_batch(["nowhere.png"], target=[[asked]])


@pytest.mark.parametrize(
    ("name", "asked", "words"),
    [
        ("segment", Region(0, point=(64, 0)), "outside of the photo"),
        ("segment", Region(0, np.ones((24, 32))), "32 x 24 pixels, but the photo has 64 x 48"),
        ("heat", Region(0, point=(3, 3)), "heat maps have no parts"),
        ("embed", None, "an embedding needs a reference"),
    ],
)
def test_targets_that_do_not_fit_the_picture(name, asked, words, explainer, photo):
    with pytest.raises(UsageError, match=words):
        explainer(name).explain(photo, target=asked)


def winners(explainer, photo):
    return [t.target.class_ for t in explainer.targets(photo)]


def test_a_class_that_wins_nowhere(made, explainer, photo):
    segment = explainer("segment")
    losing = set(range(4)) - set(winners(segment, photo))
    assert losing, "the network is chosen so"
    c = losing.pop()
    names = ("sky", "tree", "road", "cat")
    with pytest.raises(UsageError, match=f"{names[c]} wins nowhere in this picture; these do: ") as error:
        segment.explain(photo, c)
    assert names[winners(segment, photo)[0]] in str(error.value)
    mask = np.zeros((48, 64), bool)
    mask[4:20, 8:40] = True
    assert segment.explain(photo, target=Region(c, mask)).label == names[c]


def test_a_class_that_does_not_win_at_the_point(explainer, photo):
    segment = explainer("segment")
    own = segment.explain(photo, target=Region(point=(10, 10)))
    other = next(c for c in winners(segment, photo) if c != own.class_index)
    with pytest.raises(UsageError, match=f"does not win at the point: {own.label} does"):
        segment.explain(photo, target=Region(other, point=(10, 10)))


@pytest.mark.parametrize("name", ["segment", "heat", "values", "one", "classes"])
def test_targets_of_a_picture(name, explainer, photo):
    """The targets that an Explainer names have the scores of their explanations, and the first goes without a name."""
    opened = explainer(name)
    found = opened.targets(photo)
    explained = opened.explain_batch([photo], target=[[t.target for t in found]])
    assert len(found) == {"segment": len(found), "heat": 2, "values": 3, "one": 1, "classes": 1}[name] > 0
    for (_, score, confidence), explanation in zip(found, explained, strict=True):
        assert explanation.score == pytest.approx(score, abs=1e-5)
        assert explanation.probability == pytest.approx(confidence, abs=1e-5)
    if name in ("segment", "heat", "classes"):
        first = opened.explain(photo)
        np.testing.assert_array_equal(first.maps["grad_cam"], explained[0].maps["grad_cam"])
    if name == "segment":
        shares = [e.target.region.mean() for e in explained]
        assert shares == sorted(shares, reverse=True)
        assert min(shares) >= 0.02


def test_an_embedding_has_no_targets_of_its_own(explainer, photo):
    with pytest.raises(UsageError, match="name one, target=Like"):
        explainer("embed").targets(photo)


def test_targets_in_a_batch(explainer, photo, pictures):
    segment = explainer("segment")
    best = segment.explain_batch([photo, pictures[0]], top=1)
    assert [e.class_index for e in best] == [
        max(segment.targets(p), key=lambda t: t.confidence).target.class_ for p in (photo, pictures[0])
    ]
    above = segment.explain_batch([photo], above=0.5)
    assert all(e.probability >= 0.5 for e in above)
    mask = np.zeros((48, 64), bool)
    mask[:20] = True
    mixed = segment.explain_batch([photo, photo], target=[[Region(1, mask), None], Region(2, mask)])
    assert [e.class_index for e in mixed] == [1, segment.explain(photo).class_index, 2]
    with pytest.raises(UsageError, match="2 entries in target for 1 pictures"):
        segment.explain_batch([photo], target=[None, None])
    with pytest.raises(UsageError, match="give one of class_index, target, top and above"):
        segment.explain_batch([photo], target=Region(1), top=2)
    with pytest.raises(UsageError, match="give one of class_index and target"):
        segment.explain(photo, 1, target=Region(1))
    with pytest.raises(UsageError, match="not probabilities: name the targets"):
        explainer("heat").explain_batch([photo], above=0.5)


def test_names_of_targets(explainer, photo, tmp_path):
    mask = np.zeros((48, 64), bool)
    mask[:20] = True
    segment, heat = explainer("segment"), explainer("heat")
    found = segment.explain(photo, target=Region("tree", mask, peak=True))
    assert (found.title, found.label, found.stem) == ("tree, in the mask, peak", "tree", "picture-1_in_the_mask_peak")
    at = segment.explain(photo, target=Region(point=(10, 20)))
    assert at.stem == f"picture-{at.class_index}_at_10_20"
    down = heat.explain(photo, target=Value(1, down=True))
    assert (down.title, down.label, down.stem) == ("value 1, down", "value 1", "picture-1_down")
    like = explainer("embed").explain(photo, target=Like(np.arange(1, 8)))
    assert (like.title, like.stem) == ("like a vector", "picture-like_a_vector")
    files = like.save(tmp_path)
    assert {f.name for f in files} == {f"picture-like_a_vector.{kind}" for kind in ("npz", "json", "png")}


def test_a_result_says_what_it_explains(explainer, photo):
    mask = np.zeros((48, 64), bool)
    mask[8:24, 16:40] = True
    found = explainer("segment").explain(photo, target=Region(1, mask))
    told = json.loads(json.dumps(found.summary()))["target"]
    assert told == {
        "kind": "region",
        "title": "tree, in the mask",
        "score": found.score,
        "confidence": found.probability,
        "region_share": pytest.approx(mask.mean(), abs=1e-6),
    }
    region = found.to_dict()["region"]
    assert region.shape == (48, 64)
    assert (region & mask).sum() / (region | mask).sum() > 0.9
    again = pickle.loads(pickle.dumps(found))
    assert again.target.same_as(found.target)
    plain = explainer("classes").explain(photo)
    assert plain.region is None
    assert "region" not in plain.to_dict()
    assert plain.summary()["target"]["kind"] == "class"


def test_the_region_is_outlined(explainer, photo):
    mask = np.zeros((48, 64), bool)
    mask[8:24, 16:40] = True
    found = explainer("segment").explain(photo, target=Region(1, mask))
    plain = found.__class__(**{**vars(found), "target": None})
    drawn, without = found.overlay("grad_cam"), plain.overlay("grad_cam")
    changed = (drawn != without).any(2)
    edge = np.zeros_like(mask)
    edge[4:28, 12:44], edge[14:18, 22:34] = True, False
    assert changed.any()
    assert not changed[~edge].any()
    assert (found.panel() != plain.panel()).any()
