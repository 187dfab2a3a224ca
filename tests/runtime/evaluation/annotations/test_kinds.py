"""Three kinds of annotations: the objects and classes that a sound file of each kind gives."""

import cv2
import numpy as np
import pytest

from fusioncam.runtime.evaluation.annotations import read_annotations
from fusioncam.runtime.photos.folder import photos_of


@pytest.mark.parametrize(
    "content",
    [
        lambda samples: samples.coco(),
        lambda samples: samples.voc(("tabby", (11, 21, 30, 60)), ("zebra", (101, 1, 110, 5))),
        lambda _: [
            {
                "file": "a.jpg",
                "size": [200, 100],
                "accept_classes": [1, 2],
                "boxes": [[10, 20, 30, 60], [100, 0, 110, 5]],
                "boxes_class": ["tabby cat", "zebra"],
            }
        ],
    ],
    ids=["coco", "voc", "listing"],
)
def test_the_same_objects_in_three_kinds(read, content, samples):
    found = read(content(samples))
    assert found.accepted("a.jpg") == (1, 2)
    np.testing.assert_array_equal(found.region("a.jpg", samples.SIZE, 1), samples.box(10, 20, 30, 60))
    np.testing.assert_array_equal(found.region("a.jpg", samples.SIZE, 2), samples.box(100, 0, 110, 5))
    assert not found.region("a.jpg", samples.SIZE, 3).any()
    assert found.problems_of("a.jpg", samples.SIZE) == []
    assert "a.jpg" not in " ".join(samples.said(found))


def test_classes_the_labels_do_not_know(read, samples):
    things = [{"id": i, "image_id": 1, "category_id": 8, "bbox": [0, 0, 5, 5]} for i in range(3)]
    found = read(samples.coco(annotations=things))
    assert found.accepted("a.jpg") == ()
    assert not any(found.region("a.jpg", samples.SIZE, c).any() for c in range(len(samples.LABELS)))
    assert samples.said(found) == ["None: class 'unicorn': the model has no such class; its objects are not used"]


def test_a_name_of_several_classes_counts_for_each(read, samples):
    found = read(samples.voc(("Crane", (1, 1, 5, 5))))
    assert found.accepted("a.jpg") == (3, 4)
    assert found.region("a.jpg", samples.SIZE, 3).any()
    assert found.region("a.jpg", samples.SIZE, 4).any()


def test_numbers_take_the_offset(read, samples):
    listing = [
        {
            "file": "a.jpg",
            "size": [10**400, 5],
            "accept_classes": [1, 3, 4, -2, True, None, 10**400],
            "boxes": [[0, 0, 9, 9]],
        }
    ]
    found = read(listing, class_offset=1)
    assert found.accepted("a.jpg") == (2, 4)
    np.testing.assert_array_equal(found.region("a.jpg", samples.SIZE, 0), samples.box(0, 0, 9, 9))  # of whatever class
    assert len(samples.said(found)) == 5


@pytest.mark.parametrize("one", [np.uint8(255), np.uint8(1), np.uint16(1), np.uint16(65535)])
def test_a_mask_beside_the_list(read, tmp_path, one, samples):
    cv2.imwrite(str(tmp_path / "mask.png"), samples.box(3, 4, 50, 60) * one)
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((*samples.SIZE, 3), np.uint8))
    found = read([{"file": "a.png", "mask": "mask.png", "accept_classes": []}], photos=["a.png"])
    np.testing.assert_array_equal(found.region("a.png", samples.SIZE, 2), samples.box(3, 4, 50, 60))
    assert [*photos_of(tmp_path, leave_out=found.mask_files)] == ["a.png"]


def test_a_photo_annotated_twice(read, samples):
    first, second = ({"file": "a.jpg", "accept_classes": [c], "boxes": [[c, 0, c + 1, 1]]} for c in (1, 2))
    found = read([first, second])
    assert found.accepted("a.jpg") == (1, 2)
    assert found.region("a.jpg", samples.SIZE, 1).sum() == 2
    assert samples.said(found) == ["a.jpg: annotated several times: merged"]
    assert "different sizes" in samples.said(read([first, {**second, "size": [3, 3]}]))[0]


def test_a_bundle_without_labels(tmp_path, samples):
    (tmp_path / "a.xml").write_text(samples.voc(("zebra", (1, 1, 9, 9)), ("1", (1, 1, 9, 9))))
    found = read_annotations(tmp_path / "a.xml", None, 5, class_offset=1).matched_to(["a.jpg"])
    assert found.accepted("a.jpg") == (2,)
    assert samples.said(found) == [
        "None: class 'zebra': the bundle has no labels to look it up in; its objects are not used"
    ]


def test_the_digest_tells_annotations_apart(read, tmp_path, samples):
    one, other = read(samples.coco()).sha256, read(samples.coco(annotations=[])).sha256
    assert one != other
    assert read(samples.coco()).sha256 == one


def test_the_shared_photos(shared_assets, samples):
    folder = shared_assets / "images"
    found = read_annotations(folder / "annotations.json", None, 1001, class_offset=1)
    photos = photos_of(folder, leave_out=found.mask_files)
    found = found.matched_to(photos)
    assert len(photos) == len(found.entries) == 23
    assert found.accepted("captum_zebra.jpg") == (341,)
    assert {p.image for p in found.problems} == {None}
    np.testing.assert_array_equal(
        found.region("coral_bird.png", (343, 512), 20), samples.box(36, 72, 486, 302, (343, 512))
    )
    assert 0.1 < found.region("coral_bird_segmentation.png", (513, 513), 5).mean() < 0.3
