"""Damaged annotations: the bad part is named, and the rest is read."""

import json
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fusioncam.errors import UsageError
from fusioncam.runtime.evaluation.annotations import read_annotations
from fusioncam.runtime.photos.folder import photos_of

NASTY = {"id": 1, "image_id": 1, "category_id": 9}


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (NASTY, "neither a box nor a mask"),
        ({**NASTY, "bbox": [1, 2, 3]}, "4 numbers"),
        ({**NASTY, "bbox": [1, 2, "3", 4]}, "number"),
        ({**NASTY, "bbox": [1, 2, 10**400, 4]}, "number"),
        ({**NASTY, "segmentation": [[1, 2, 3]]}, "three points"),
        ({**NASTY, "segmentation": {"size": [5, 5], "counts": "!!"}}, "damaged"),
        ({**NASTY, "category_id": 99, "bbox": [1, 2, 3, 4]}, "category that is not listed"),
        ({**NASTY, "category_id": [9], "bbox": [1, 2, 3, 4]}, "category that is not listed"),
        ({**NASTY, "image_id": 5, "bbox": [1, 2, 3, 4]}, "images that are not listed"),
        ({**NASTY, "image_id": {"a": 1}, "bbox": [1, 2, 3, 4]}, "images that are not listed"),
    ],
)
def test_one_bad_object_among_good_ones(read, thing, words, samples):
    good = samples.coco()["annotations"]
    found = read(samples.coco(annotations=[thing, "nothing", *good]))
    assert any(words in line for line in samples.said(found))
    np.testing.assert_array_equal(found.region("a.jpg", samples.SIZE, 1), samples.box(10, 20, 30, 60))


FAR_POLYGON = [-1e308, -1e308, 1e308, 1e308, 1e308, -1e308]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"annotations": [{**NASTY, "segmentation": [FAR_POLYGON]}]}, "number is out of range"),
        *(({"images": [{"id": 1, "file_name": name}]}, "has no file_name") for name in (".", "/", "//", "./.", " ")),
        ({"images": [{"id": 10**4000, "file_name": None}]}, "has no file_name"),
        ({"categories": [{"id": 9, "name": [[[["deep"]]] * 99] * 99}]}, "the model has no such class"),
    ],
)
def test_a_bad_part_is_named_in_a_short_line_and_the_rest_goes_on(read, changes, words, samples):
    good, bad = samples.coco(), samples.coco(**{"images": [], "annotations": [], "categories": [], **changes})
    merged = {key: [*bad[key], *good[key]] for key in good}
    found = read(merged)
    assert any(words in line for line in samples.said(found))
    assert max(map(len, samples.said(found))) < 300
    assert found.problems_of("a.jpg", samples.SIZE) == []
    np.testing.assert_array_equal(found.region("a.jpg", samples.SIZE, 1), samples.box(10, 20, 30, 60))


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        ("a\0b", "no file can have this name"),
        ("\ud800.png", "no file can have this name"),
        ("a" * 5000, "too long"),
        ("missing.png", "No such file"),
        ("annotations/b", "Not a directory"),
        ("", "not an ordinary file"),
        (".", "not an ordinary file"),
        ("/dev/zero", "not an ordinary file"),
    ],
)
def test_masks_that_cannot_be_are_named_and_no_photo_is_taken_for_one(read, tmp_path, mask, words, samples):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((*samples.SIZE, 3), np.uint8))
    found = read([{"file": "a.png", "mask": mask, "boxes": [[10, 20, 30, 60]]}], photos=["a.png"])
    (line,) = samples.said(found)
    assert words in line
    assert len(line) < 200
    assert [*photos_of(tmp_path, leave_out=found.mask_files)] == ["a.png"]
    np.testing.assert_array_equal(found.region("a.png", samples.SIZE, 2), samples.box(10, 20, 30, 60))


def test_masks_that_cannot_be_read_are_named_with_their_photo(read, tmp_path, samples):
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(3 << 30)  # of holes alone
    (tmp_path / "empty.png").write_bytes(b"")
    items = [{"file": f"{n}.png", "mask": f"{n}.png", "boxes": [[10, 20, 30, 60]]} for n in ("huge", "empty")]
    found = read([{**item, "file": "a" + item["file"]} for item in items], photos=["ahuge.png", "aempty.png"])
    assert samples.said(found) == [
        "ahuge.png: its mask 'huge.png' was left out: it has 3,221,225,472 bytes, the limit is 1,073,741,824"
    ]
    (line,) = found.problems_of("aempty.png", samples.SIZE)
    assert line.startswith("object 2 of 2 could not be used")
    assert "is empty" in line
    for photo in ("ahuge.png", "aempty.png"):
        np.testing.assert_array_equal(found.region(photo, samples.SIZE, 2), samples.box(10, 20, 30, 60))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["b.jpg", ".", "//", "a\0b", "zebra", "1", 1, 9, 0.5, 1e308, "\ud800"]),
    lambda inner: st.lists(inner, max_size=6),
    max_leaves=12,
)


KEYS = {
    "images": ("id", "file_name", "height", "width"),
    "annotations": ("id", "image_id", "category_id", "bbox", "segmentation"),
    "categories": ("id", "name"),
}


def damaged(record):
    return st.one_of(JSON, *(JSON.map(lambda v, key=key: {**record, key: v}) for key in record))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_stands_in_one_record_the_others_are_read(data, samples):
    good = samples.coco()
    key = data.draw(st.sampled_from([*KEYS]))
    record = {
        **dict.fromkeys(KEYS[key], None),
        **good[key][0],
        **({"id": 5, "file_name": "b.jpg"} if key == "images" else {}),
    }
    bad = data.draw(damaged(record))
    assume(key != "images" or not isinstance(bad, dict) or bad["id"] != 1)  # then it would be another's
    good[key] = [bad, *good[key]]
    check_that_the_rest_is_read(good, samples)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_whatever_stands_in_one_entry_of_a_list_the_others_are_read(data, samples):
    entry = {"file": "b.jpg", "size": [200, 100], "accept_classes": [1], "boxes": [[0, 0, 9, 9]], "boxes_class": [1]}
    bad = data.draw(damaged({**entry, "mask": "m.png"}))
    check_that_the_rest_is_read(
        [bad, {"file": "val/a.jpg", "accept_classes": [1], "boxes": [[10, 20, 30, 60]]}], samples
    )


def check_that_the_rest_is_read(content, samples):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "annotations.json")
        path.write_text(json.dumps(content))
        found = read_annotations(path, samples.LABELS, len(samples.LABELS)).matched_to(["val/a.jpg", "b.jpg"])
    for photo in ("val/a.jpg", "b.jpg"):
        found.problems_of(photo, samples.SIZE)
    assert found.region("val/a.jpg", samples.SIZE, 1)[20:60, 10:30].all()
    assert all(isinstance(p.text, str) for p in found.problems)


def test_a_folder_of_xml_in_which_some_cannot_be_read(tmp_path, samples):
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.xml").write_text(samples.voc(("zebra", (1, 1, 9, 9))))
    (tmp_path / "deep" / "b.xml").write_bytes(samples.voc(("tabby", (1, 1, 9, 9)), filename="b.jpg").encode("utf-16"))
    (tmp_path / "c.xml").write_text("<annotation><object>")
    (tmp_path / "d.xml").write_text("<html/>")
    (tmp_path / "e.xml").write_bytes(b"")
    found = read_annotations(tmp_path, samples.LABELS, len(samples.LABELS)).matched_to(["a.jpg", "b.jpg"])
    assert (found.accepted("a.jpg"), found.accepted("b.jpg")) == ((2,), (1,))
    assert [line.split(":")[1].split()[0] for line in samples.said(found)] == ["c.xml", "d.xml", "e.xml"]


def test_entities_are_not_expanded(tmp_path, samples):
    laughs = "".join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' for i in range(9))
    head = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "ha">{laughs}]>'
    text = samples.voc(("&l9;", (1, 1, 9, 9)), head=head)
    for encoding in ("utf-8", "utf-16"):
        (tmp_path / "a.xml").write_bytes(text.encode(encoding))
        with pytest.raises(UsageError, match="DOCTYPE"):
            read_annotations(tmp_path / "a.xml", samples.LABELS, len(samples.LABELS))


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "{}", "null", "[[1]]", '{"images": []}', '{"images": 3}', '[{"file": 3}]', "<html/>", "<a", "\x00"),
        "[" * 100_000,
        '[{"image_id": 1, "bbox": [1, 2, 3, 4]}]',
    ],
)
def test_nothing_that_can_be_read(read, content):
    with pytest.raises(UsageError, match=r"give COCO JSON") as caught:
        read(content)
    assert "\n" not in str(caught.value)


def test_the_first_problem_says_why_nothing_can_be_read(read, samples):
    with pytest.raises(UsageError, match=r"annotates no photo \(image 1 has no file_name\); give"):
        read(samples.coco(images=[{"id": 1, "file_name": "."}]))


def test_no_file_and_no_xml_in_the_folder(tmp_path, samples):
    for path in (tmp_path, tmp_path / "missing.json"):
        with pytest.raises(UsageError, match="give COCO JSON"):
            read_annotations(path, samples.LABELS, len(samples.LABELS))
