"""Targets of a detector: the detection that a class, a box or a point names, and the tensors that graphs take of it."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fusioncam import Box, Class, Detections, NothingDetectedError, UsageError
from fusioncam.runtime.detection_pictures import mark_of
from fusioncam.runtime.engine.request import ExplainRequest
from fusioncam.runtime.engine.target_resolver import TargetResolver
from fusioncam.runtime.picture_inputs import NO_INPUTS
from fusioncam.runtime.targets.kinds import Each
from fusioncam.runtime.targets.sight import Outputs
from fusioncam.runtime.targets.tasks import checked_target, default_targets, resolve, resolve_all


@pytest.fixture
def resolved(drawn):
    """Resolves a target for the picture that is made by hand, or for another one."""

    def resolved(asked, sight=None):
        sight = sight or drawn.sight_of(drawn.manifest_of())
        return resolve(checked_target(sight.manifest, asked), sight)

    return resolved


@pytest.mark.parametrize(
    ("asked", "anchor", "class_"),
    [
        (None, 0, 0),
        ("dog", 3, 1),
        (Class(0), 0, 0),
        (Box("person"), 0, 0),
        (Box("person", (100, 20, 175, 90)), 2, 0),
        (Box(box=(108, 35, 172, 92)), 3, 1),
        (Box(box=(12, 22, 60, 92)), 0, 0),
        (Box("person", (110, 40, 170, 90)), 3, 0),  # the dog's box overlaps the person's by less than a half
        (Box(point=(120, 50)), 3, 1),
        (Box("person", point=(120, 50)), 2, 0),
        (Box("traffic light", point=(120, 50)), 3, 2),
        (Box("traffic light", conf=0.1), 4, 2),
    ],
)
def test_what_names_a_detection(asked, anchor, class_, drawn, resolved):
    target = resolved(asked)
    assert (int(target.tensors["anchor"]), target.class_index) == (anchor, class_)
    assert target.tensors["class_index"] == class_
    np.testing.assert_array_equal(target.tensors["box"], np.array(drawn.BOXES[anchor], np.float32))
    np.testing.assert_array_equal(target.tensors["weights"], [0, 0, 0, 0, 1])
    form = drawn.sight_of(drawn.manifest_of()).manifest.form
    assert {t.name: (t.dtype, t.shape) for t in form.targets} == {
        name: (str(t.dtype), t.shape) for name, t in target.tensors.items()
    }


def test_titles_and_boxes(drawn, resolved):
    target = resolved(Box("dog"), drawn.sight_of(drawn.manifest_of(), photo_size=(200, 600)))
    assert (target.kind, target.title) == ("box", "dog, at 330, 80, 510, 180")
    assert target.slug == "1_at_330_80_510_180"
    assert target.by == "score"
    np.testing.assert_array_equal(target.boxes, [drawn.BOXES[3]])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Box("cat"), "no class is called 'cat'"),
        (Box("persons"), "no class is called 'persons'; did you mean 'person'"),
        (Box(7), "there is no class 7"),
        (Box(box=(1, 2, 3)), r"a box is \(x1, y1, x2, y2\) in pixels"),
        (Box(box=(10, 20, 5, 30)), "x1 < x2"),
        (Box(box=(1, 2, 3, np.nan)), "a box is"),
        (Box(box=(-1e300, 0, 1e300, 9)), r"up to 1e\+09 of them, not \(-1e\+300, 0, 1e\+300, 9\)"),
        (Box(box=(1, 2, 3, 4), point=(1, 2)), "a box or a point, not both"),
        (Box(by="edges"), "by is 'score' or 'box' or 'both', not 'edges'"),
        (Box(by=[]), r"by is 'score' or 'box' or 'both', not \[\]"),
        (Box(keypoint=0), "gives no keypoints"),
        (Box(conf=2), "conf must be a number from 0 to 1"),
        (Detections(conf=-1), "conf must be a number from 0 to 1"),
        (Detections("cat"), "no class is called 'cat'"),
        (Box(point=("a", 2)), "a point is"),
        (Box(point=(200, 2)), "lies outside of the photo: it has 200 x 100 pixels"),
        (Box(point=(80, 5)), "no detection holds the point .*: the nearest is person 0.70 at 100, 10, 180, 90"),
        (Box(box=(0, 20, 39, 90)), "the nearest is person 0.90 at 10, 20, 60, 90, which overlaps it by 0.48"),
        (Box(box=(300, 0, 400, 5)), "lies outside of the photo: it has 200 x 100 pixels"),
        (Box(box=(185, 0, 199, 5)), "no detection overlaps the box .*: the nearest is person 0.70"),
        (
            Box("traffic light"),
            "no detection of traffic light has a score of 0.25 or more: the best is .* 0.20 at 0, 0",
        ),
        (Box(conf=0.95), "no detection has a score of 0.95 or more: the best is person 0.90 at 10, 20, 60, 90"),
        (Detections("dog", 0.8), "no detection of dog has a score of 0.8 or more: the best is dog 0.60"),
    ],
)
def test_questions_without_an_answer(asked, words, resolved):
    with pytest.raises(UsageError, match=words):
        resolved(asked)


def test_classes_that_are_never_detected(drawn, resolved):
    with pytest.raises(UsageError, match="person is the background, which is never detected"):
        resolved(Box("person"), drawn.sight_of(drawn.manifest_of(background=0)))
    form = drawn.form_of()
    form[:, 6] = -20
    with pytest.raises(UsageError, match="no detection of traffic light is in this picture: another class"):
        resolved(Box("traffic light"), drawn.sight_of(drawn.manifest_of(), form))
    with pytest.raises(UsageError, match=r"the best, dog 0.60 at .*, is a duplicate of another class's"):
        resolved(Box("dog"), drawn.sight_of(drawn.manifest_of(class_wise=False, iou=0.3)))


def test_default_targets(drawn, resolved):
    sight = drawn.sight_of(drawn.manifest_of())
    found = default_targets(sight)
    assert [(t.class_, t.box) for t in found] == [(0, drawn.BOXES[0]), (0, drawn.BOXES[2]), (1, drawn.BOXES[3])]
    assert [int(resolved(t, sight).tensors["anchor"]) for t in found] == [0, 2, 3]
    form = np.concatenate([drawn.form_of()[:1]] * 30)
    form[:, [0, 2]] += np.arange(30)[:, None] * 4
    assert len(default_targets(drawn.sight_of(drawn.manifest_of(30, iou=1.0), form))) == 10
    with pytest.raises(UsageError, match=r"no detection has a score of 0.95 or more"):
        default_targets(drawn.sight_of(drawn.manifest_of(conf=0.95)))


def test_a_picture_without_detections_has_none_to_choose_from(drawn):
    engine = SimpleNamespace(read=lambda x, inputs: Outputs(drawn.form_of()))
    resolver = TargetResolver(drawn.manifest_of(conf=0.95), engine)
    request = ExplainRequest(np.ones((3, 100, 200), np.float32), lambda p: [0], ("grad_cam",), inputs=NO_INPUTS)
    assert resolver.resolved(request) == []
    with pytest.raises(NothingDetectedError):
        resolver.resolved(replace(request, targets=[None]))


def test_a_detection_that_lies_beside_the_photo_is_no_default(drawn):
    form = drawn.form_of()
    form[0, :4] = (210, 0, 230, 90)
    assert next(t.box for t in default_targets(drawn.sight_of(drawn.manifest_of(), form))) == drawn.BOXES[1]


@pytest.mark.parametrize(
    ("by", "moved", "still"),
    [("box", [-0.6, 0, 0.8, 0, 0], [-0.5, -0.5, 0.5, 0.5, 0]),
     ("both", [-3 / 25, 0, 4 / 25, 0, 1 / 2], [-0.5, -0.5, 0.5, 0.5, 1])],  # each part by its own move
)  # fmt: skip
def test_evidence_for_the_edges_of_a_box(by, moved, still, drawn, resolved):
    blank = drawn.form_of()
    blank[0, :5] += (3, 0, -4, 0, -2)
    target = resolved(Box("person", by=by), drawn.sight_of(drawn.manifest_of(), blank=blank))
    np.testing.assert_allclose(target.tensors["weights"], moved, rtol=1e-6)
    assert target.by == by
    unmoved = resolved(Box("person", by=by), drawn.sight_of(drawn.manifest_of(), blank=drawn.form_of()))
    np.testing.assert_array_equal(unmoved.tensors["weights"], still)


def test_keypoints(drawn, resolved):
    manifest = drawn.manifest_of(extra="keypoints", extras=12)
    target = resolved(Box("person", keypoint=3), drawn.sight_of(manifest, drawn.form_of([np.zeros((6, 12))])))
    assert target.tensors["class_index"] == 3 + 3 * 3 + 2
    assert (target.class_index, target.title) == (0, "person, keypoint 3, at 10, 20, 60, 90")
    assert target.keypoint == 3
    for asked, words in ((Box(keypoint=4), "gives 4, 0 to 3"), (Box(keypoint=0, by="both"), "leave by out")):
        with pytest.raises(UsageError, match=words):
            checked_target(manifest, asked)
    with pytest.raises(UsageError, match="leave out the view `flip`"):
        target.mirrored(200)
    pose = drawn.manifest_of(extra="keypoints", extras=51)
    ear = resolved(Box("person", keypoint="Left ear"), drawn.sight_of(pose, drawn.form_of([np.zeros((6, 51))])))
    assert (ear.keypoint, ear.title) == (3, "person, left ear, at 10, 20, 60, 90")
    assert (ear.heading, ear.subject) == (("left ear", "of person at 10, 20, 60, 90"), "keypoint")
    assert (mark_of(ear.detection, 3).tag, mark_of(ear.detection).tag) == ("left ear 0.50", "person 0.90")
    for asked, words in (
        ("noze", "did you mean 'nose'"),
        ("tail", "give its number, 0 to 16"),
        ("17", "0 to 16"),
    ):
        with pytest.raises(UsageError, match=words):
            checked_target(pose, Box(keypoint=asked))


def test_every_detection_is_a_target_of_its_own(drawn):
    sight = drawn.sight_of(drawn.manifest_of())

    def found(*asked, **more):
        targets = resolve_all(checked_target(sight.manifest, Each(*asked, **more)), sight)
        return [t.detection.anchor for t in targets]

    assert found() == [0, 2, 3]
    assert found(("dog", "1"), most=4) == [3]
    assert found(("dog", "person"), most=2) == [0, 2]
    assert found(conf=0.1, iou=1.0) == [0, 1, 2, 3, 4]
    for asked, words in ((Each(most=301), "top must be a whole number, 1 to 300"), (Each(iou=2), "iou must be")):
        with pytest.raises(UsageError, match=words):
            checked_target(sight.manifest, asked)
    words = r"no detection of dog or traffic light has a score of 0\.7 or more: the best is dog"
    with pytest.raises(NothingDetectedError, match=words):
        found(("dog", "traffic light"), conf=0.7)


def test_all_detections_are_one_target(resolved):
    target = resolved(Detections())
    assert (target.kind, target.title, target.class_index) == ("detections", "3 detections", -1)
    assert [int(part.tensors["anchor"]) for part in target.rows] == [0, 2, 3]
    assert [p.class_index for p in target.parts] == [0, 0, 1]
    assert target.boxes.shape == (3, 4)
    persons = resolved(Detections("person", conf=0.8, by="both"))
    assert (persons.title, persons.class_index, persons.by) == ("1 detection of person", 0, "both")
    assert target.same_as(resolved(Detections()))
    assert not target.same_as(resolved(Detections(conf=0.65)))


def test_mirrored_targets(drawn, resolved):
    target = resolved(Box("dog", by="both"), drawn.sight_of(drawn.manifest_of(), blank=drawn.form_of() * 0.9))
    turned = target.mirrored(200)
    np.testing.assert_array_equal(turned.tensors["box"], [30, 40, 90, 90])
    weights = target.tensors["weights"]
    np.testing.assert_array_equal(turned.tensors["weights"], [-weights[2], weights[1], -weights[0], *weights[3:]])
    assert turned.tensors["anchor"] == -1
    assert {str(t.dtype) for t in turned.tensors.values()} == {"int64", "float32"}
    assert [part.tensors["anchor"] for part in resolved(Detections()).mirrored(200).parts] == [-1] * 3
