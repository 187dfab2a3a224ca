"""Annotations of three kinds, sound and nasty, and their way to the model's input."""

import json
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fusioncam.errors import UsageError
from fusioncam.manifest import Preprocessing
from fusioncam.runtime.evaluation.annotations import in_model_input, read_annotations
from fusioncam.runtime.photos.folder import photos_of

LABELS = ["background", "tabby, tabby cat", "zebra", "crane", "crane, lifting"]
SQUARE = [10, 20, 30, 20, 30, 60, 10, 60]
SIZE = (100, 200)  # H, W


def coco(**changes):
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 100, "width": 200}],
        "categories": [{"id": 7, "name": "Tabby"}, {"id": 8, "name": "unicorn"}, {"id": 9, "name": "zebra"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 7, "bbox": [10, 20, 20, 40]},
            {
                "id": 2,
                "image_id": 1,
                "category_id": 9,
                "bbox": [0, 0, 1, 1],
                "segmentation": [[100, 0, 110, 0, 110, 5, 100, 5]],
            },
        ],
        **changes,
    }


def voc(*objects, filename="a.jpg", size=(200, 100), head=""):
    boxes = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for name, (x0, y0, x1, y1) in objects
    )
    said = f"<filename>{filename}</filename>" if filename else ""
    return (
        f"{head}<annotation>{said}<size><width>{size[0]}</width><height>{size[1]}</height></size>{boxes}</annotation>"
    )


@pytest.fixture
def read(tmp_path):
    """Writes annotations and reads them for some photos."""

    def write_and_read(content, photos=("a.jpg",), name="annotations", **options):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        return read_annotations(path, LABELS, len(LABELS), **options).matched_to(photos)

    return write_and_read


def box(x0, y0, x1, y1, size=SIZE):
    mask = np.zeros(size, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def said(annotations):
    return [f"{p.image}: {p.text}" for p in annotations.problems]


@pytest.mark.parametrize(
    "content",
    [
        coco(),
        voc(("tabby", (11, 21, 30, 60)), ("zebra", (101, 1, 110, 5))),
        [
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
def test_the_same_objects_in_three_kinds(read, content):
    found = read(content)
    assert found.accepted("a.jpg") == (1, 2)
    np.testing.assert_array_equal(found.region("a.jpg", SIZE, 1), box(10, 20, 30, 60))
    np.testing.assert_array_equal(found.region("a.jpg", SIZE, 2), box(100, 0, 110, 5))
    assert not found.region("a.jpg", SIZE, 3).any()
    assert found.problems_of("a.jpg", SIZE) == []
    assert "a.jpg" not in " ".join(said(found))


def test_unknown_photos_are_nothing(read):
    found = read(coco(), photos=["a.jpg", "b.jpg"])
    assert said(found)[-1] == "b.jpg: no annotation for this photo"
    assert found.accepted("b.jpg") == ()
    assert not found.region("b.jpg", SIZE, 1).any()
    assert found.problems_of("b.jpg", SIZE) == []


def test_classes_the_labels_do_not_know(read):
    things = [{"id": i, "image_id": 1, "category_id": 8, "bbox": [0, 0, 5, 5]} for i in range(3)]
    found = read(coco(annotations=things))
    assert found.accepted("a.jpg") == ()
    assert not any(found.region("a.jpg", SIZE, c).any() for c in range(len(LABELS)))
    assert said(found) == ["None: class 'unicorn': the model has no such class; its objects are not used"]


def test_a_name_of_several_classes_counts_for_each(read):
    found = read(voc(("Crane", (1, 1, 5, 5))))
    assert found.accepted("a.jpg") == (3, 4)
    assert found.region("a.jpg", SIZE, 3).any()
    assert found.region("a.jpg", SIZE, 4).any()


def test_numbers_take_the_offset(read):
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
    np.testing.assert_array_equal(found.region("a.jpg", SIZE, 0), box(0, 0, 9, 9))  # of whatever class
    assert len(said(found)) == 5


@pytest.mark.parametrize("one", [np.uint8(255), np.uint8(1), np.uint16(1), np.uint16(65535)])
def test_a_mask_beside_the_list(read, tmp_path, one):
    cv2.imwrite(str(tmp_path / "mask.png"), box(3, 4, 50, 60) * one)
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((*SIZE, 3), np.uint8))
    found = read([{"file": "a.png", "mask": "mask.png", "accept_classes": []}], photos=["a.png"])
    np.testing.assert_array_equal(found.region("a.png", SIZE, 2), box(3, 4, 50, 60))
    assert [*photos_of(tmp_path, leave_out=found.mask_files)] == ["a.png"]


@pytest.mark.parametrize(
    ("bounds", "line", "left"),
    [
        ([150, 50, 230, 90], "reaches beyond the photo: it was clipped", (150, 50, 200, 90)),
        ([-20, -1, 30, 10], "reaches beyond the photo: it was clipped", (0, 0, 30, 10)),
        ([200, 0, 210, 10], "lies outside the photo: it was left out", None),
        ([-9, 0, 0, 10], "lies outside the photo: it was left out", None),
        ([50, 50, 50, 60], "is empty: it was left out", None),
        ([60, 60, 50, 50], "is empty: it was left out", None),
        ([0, 0, 200.4, 100], None, (0, 0, 200, 100)),
    ],
)
def test_boxes_that_do_not_lie_in_the_photo(read, bounds, line, left):
    found = read([{"file": "a.jpg", "boxes": [bounds, [1, 1, 2, 2]], "accept_classes": [1]}])
    assert found.problems_of("a.jpg", SIZE) == ([f"object 1 of 2 {line}"] if line else [])
    wanted = box(1, 1, 2, 2) | (box(*left) if left else False)
    np.testing.assert_array_equal(found.region("a.jpg", SIZE, 1), wanted)


def test_sizes_that_disagree(read):
    found = read(coco())
    assert found.problems_of("a.jpg", (50, 100)) == ["annotated at another size: its objects were scaled to the photo"]
    np.testing.assert_array_equal(found.region("a.jpg", (50, 100), 1), box(5, 10, 15, 30, (50, 100)))
    (line,) = found.problems_of("a.jpg", (200, 100))
    assert line == "annotated as 200 x 100 but it is 100 x 200; a camera's rotation?: its objects were left out"
    assert not found.region("a.jpg", (200, 100), 1).any()


def test_what_the_centre_crop_cuts_away(read):
    crop = Preprocessing(size=(32, 32), resize="crop")
    found = read([{"file": "a.jpg", "boxes": [[0, 0, 40, 100], [90, 0, 110, 100]], "accept_classes": [1]}])
    assert found.problems_of("a.jpg", SIZE, crop) == ["object 1 of 2 is cut away by the model's centre crop"]
    assert not in_model_input(box(0, 0, 40, 100), crop).any()
    seen = in_model_input(found.region("a.jpg", SIZE, 1), crop)
    np.testing.assert_array_equal(seen, box(13, 0, 19, 32, (32, 32)))


@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_a_region_lies_where_the_photo_shows_it(resize):
    from fusioncam.runtime.photos.geometry import display_image

    prep = Preprocessing(size=(56, 48), resize=resize, crop_fraction=0.875)
    rng = np.random.default_rng(0)
    region = cv2.resize(rng.random((5, 9)), (333, 217)) > 0.5
    photo = np.repeat(region[..., None], 3, axis=2).astype(np.uint8) * 255
    np.testing.assert_array_equal(in_model_input(region, prep), display_image(photo, prep)[..., 0] >= 128)


def test_a_thin_object_does_not_vanish():
    prep = Preprocessing(size=(32, 32))
    assert in_model_input(box(510, 0, 512, 1000, (1000, 1000)), prep).sum(axis=1).tolist() == [1] * 32
    assert np.argwhere(in_model_input(box(500, 999, 501, 1000, (1000, 1000)), prep)).tolist() == [[31, 16]]
    assert not in_model_input(np.zeros((9, 9), bool), prep).any()


@pytest.mark.parametrize(
    ("names", "photos", "matched"),
    [
        (["val/a.jpg"], ["a.jpg"], ["a.jpg"]),
        (["a.jpg"], ["deep/a.jpg"], ["deep/a.jpg"]),
        (["a.jpg"], ["x/a.jpg", "y/a.jpg"], []),
        (["a.jpg"], ["a.jpg", "y/a.jpg"], ["a.jpg"]),
        (["x/a.jpg", "y/a.jpg"], ["a.jpg"], []),
        (["x/a.jpg"], ["y/a.jpg"], []),
        (["a.jpeg"], ["a.png"], ["a.png"]),
        (["a.jpeg"], ["a.png", "a.jpg"], []),
        ([".\\x\\a.jpg"], ["x/a.jpg"], ["x/a.jpg"]),
        (["<b>\"&'.jpg"], ["<b>\"&'.jpg"], ["<b>\"&'.jpg"]),
    ],
)
def test_names_and_photos(read, names, photos, matched):
    found = read([{"file": name, "accept_classes": [1]} for name in names], photos=photos)
    assert [*found.entries] == matched
    unmatched = [p for p in found.problems if "annotat" in p.text]
    assert bool(unmatched) == (len(matched) < len({*names, *photos}) - (len(matched) and names != matched))


def test_voc_by_the_name_of_its_own_file(read):
    for filename in ("", "scan0001.bmp"):
        assert read(voc(("zebra", (1, 1, 9, 9)), filename=filename), name="a.xml").accepted("a.jpg") == (2,)


def test_a_photo_annotated_twice(read):
    first, second = ({"file": "a.jpg", "accept_classes": [c], "boxes": [[c, 0, c + 1, 1]]} for c in (1, 2))
    found = read([first, second])
    assert found.accepted("a.jpg") == (1, 2)
    assert found.region("a.jpg", SIZE, 1).sum() == 2
    assert said(found) == ["a.jpg: annotated several times: taken together"]
    assert "different sizes" in said(read([first, {**second, "size": [3, 3]}]))[0]


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
def test_one_bad_object_among_good_ones(read, thing, words):
    good = coco()["annotations"]
    found = read(coco(annotations=[thing, "nothing", *good]))
    assert any(words in line for line in said(found))
    np.testing.assert_array_equal(found.region("a.jpg", SIZE, 1), box(10, 20, 30, 60))


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
def test_a_bad_part_is_named_in_a_short_line_and_the_rest_goes_on(read, changes, words):
    good, bad = coco(), coco(**{"images": [], "annotations": [], "categories": [], **changes})
    merged = {key: [*bad[key], *good[key]] for key in good}
    found = read(merged)
    assert any(words in line for line in said(found))
    assert max(map(len, said(found))) < 300
    assert found.problems_of("a.jpg", SIZE) == []
    np.testing.assert_array_equal(found.region("a.jpg", SIZE, 1), box(10, 20, 30, 60))


def test_a_photo_without_a_name_among_several_of_one_file(read):
    parts = [voc(("zebra", (1, 1, 9, 9)), filename=name) for name in (".", "a.jpg", "")]
    found = read(f"<all>{''.join(parts)}</all>", name="all.xml")
    assert found.accepted("a.jpg") == (2,)
    assert said(found) == ["None: an <annotation> has no <filename>"] * 2


def test_a_name_that_names_no_file_in_a_folder_of_xml(tmp_path):
    for name, filename in (("a.xml", "a.jpg"), ("b.xml", "."), ("c.xml", "/")):
        (tmp_path / name).write_text(voc(("zebra", (1, 1, 9, 9)), filename=filename))
    found = read_annotations(tmp_path, LABELS, len(LABELS)).matched_to(["a.jpg", "b.jpg"])
    assert [*found.entries] == ["a.jpg", "b.jpg"]  # then it is called as its own file is


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        ("a\0b", "no file can be called so"),
        ("\ud800.png", "no file can be called so"),
        ("a" * 5000, "too long"),
        ("missing.png", "No such file"),
        ("annotations/b", "Not a directory"),
        ("", "not an ordinary file"),
        (".", "not an ordinary file"),
        ("/dev/zero", "not an ordinary file"),
    ],
)
def test_masks_that_cannot_be_are_named_and_no_photo_is_taken_for_one(read, tmp_path, mask, words):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((*SIZE, 3), np.uint8))
    found = read([{"file": "a.png", "mask": mask, "boxes": [[10, 20, 30, 60]]}], photos=["a.png"])
    (line,) = said(found)
    assert words in line
    assert len(line) < 200
    assert [*photos_of(tmp_path, leave_out=found.mask_files)] == ["a.png"]
    np.testing.assert_array_equal(found.region("a.png", SIZE, 2), box(10, 20, 30, 60))


def test_masks_that_cannot_be_read_are_named_with_their_photo(read, tmp_path):
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(3 << 30)  # of holes alone
    (tmp_path / "empty.png").write_bytes(b"")
    items = [{"file": f"{n}.png", "mask": f"{n}.png", "boxes": [[10, 20, 30, 60]]} for n in ("huge", "empty")]
    found = read([{**item, "file": "a" + item["file"]} for item in items], photos=["ahuge.png", "aempty.png"])
    assert said(found) == [
        "ahuge.png: its mask 'huge.png' was left out: it has 3,221,225,472 bytes, the limit is 1,073,741,824"
    ]
    (line,) = found.problems_of("aempty.png", SIZE)
    assert line.startswith("object 2 of 2 could not be used")
    assert "is empty" in line
    for photo in ("ahuge.png", "aempty.png"):
        np.testing.assert_array_equal(found.region(photo, SIZE, 2), box(10, 20, 30, 60))


def test_a_size_that_no_memory_holds(read):
    image = {"id": 1, "file_name": "a.jpg", "height": 500_000, "width": 1_000_000}
    things = [
        {**NASTY, "bbox": [50_000, 100_000, 100_000, 200_000]},
        {**NASTY, "segmentation": [[n * 5000 for n in SQUARE]]},
    ]
    for thing in things:
        found = read(coco(images=[image], annotations=[thing]))
        assert found.problems_of("a.jpg", SIZE) == ["annotated at another size: its objects were scaled to the photo"]
        np.testing.assert_array_equal(found.region("a.jpg", SIZE, 2), box(10, 20, 30, 60))


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
def test_whatever_stands_in_one_record_the_others_are_read(data):
    good = coco()
    key = data.draw(st.sampled_from([*KEYS]))
    record = {
        **dict.fromkeys(KEYS[key], None),
        **good[key][0],
        **({"id": 5, "file_name": "b.jpg"} if key == "images" else {}),
    }
    bad = data.draw(damaged(record))
    assume(key != "images" or not isinstance(bad, dict) or bad["id"] != 1)  # then it would be another's
    good[key] = [bad, *good[key]]
    check_that_the_rest_is_read(good)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_whatever_stands_in_one_entry_of_a_list_the_others_are_read(data):
    entry = {"file": "b.jpg", "size": [200, 100], "accept_classes": [1], "boxes": [[0, 0, 9, 9]], "boxes_class": [1]}
    bad = data.draw(damaged({**entry, "mask": "m.png"}))
    check_that_the_rest_is_read([bad, {"file": "val/a.jpg", "accept_classes": [1], "boxes": [[10, 20, 30, 60]]}])


def check_that_the_rest_is_read(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "annotations.json")
        path.write_text(json.dumps(content))
        found = read_annotations(path, LABELS, len(LABELS)).matched_to(["val/a.jpg", "b.jpg"])
    for photo in ("val/a.jpg", "b.jpg"):
        found.problems_of(photo, SIZE)
    assert found.region("val/a.jpg", SIZE, 1)[20:60, 10:30].all()
    assert all(isinstance(p.text, str) for p in found.problems)


def test_masks_of_another_size_are_named(read):
    thing = {**NASTY, "segmentation": {"size": [5, 5], "counts": [25]}}
    found = read(coco(annotations=[thing]))
    assert found.problems_of("a.jpg", SIZE) == ["object 1 of 1 could not be used: the mask is 5 x 5, not 200 x 100"]
    assert not found.region("a.jpg", SIZE, 2).any()


def test_a_folder_of_xml_in_which_some_cannot_be_read(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.xml").write_text(voc(("zebra", (1, 1, 9, 9))))
    (tmp_path / "deep" / "b.xml").write_bytes(voc(("tabby", (1, 1, 9, 9)), filename="b.jpg").encode("utf-16"))
    (tmp_path / "c.xml").write_text("<annotation><object>")
    (tmp_path / "d.xml").write_text("<html/>")
    (tmp_path / "e.xml").write_bytes(b"")
    found = read_annotations(tmp_path, LABELS, len(LABELS)).matched_to(["a.jpg", "b.jpg"])
    assert (found.accepted("a.jpg"), found.accepted("b.jpg")) == ((2,), (1,))
    assert [line.split(":")[1].split()[0] for line in said(found)] == ["c.xml", "d.xml", "e.xml"]


def test_entities_are_not_expanded(tmp_path):
    laughs = "".join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' for i in range(9))
    head = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "ha">{laughs}]>'
    text = voc(("&l9;", (1, 1, 9, 9)), head=head)
    for encoding in ("utf-8", "utf-16"):
        (tmp_path / "a.xml").write_bytes(text.encode(encoding))
        with pytest.raises(UsageError, match="DOCTYPE"):
            read_annotations(tmp_path / "a.xml", LABELS, len(LABELS))


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


def test_the_first_problem_says_why_nothing_can_be_read(read):
    with pytest.raises(UsageError, match=r"annotates no photo \(image 1 has no file_name\); give"):
        read(coco(images=[{"id": 1, "file_name": "."}]))


def test_no_file_and_no_xml_in_the_folder(tmp_path):
    for path in (tmp_path, tmp_path / "missing.json"):
        with pytest.raises(UsageError, match="give COCO JSON"):
            read_annotations(path, LABELS, len(LABELS))


def test_the_digest_tells_annotations_apart(read, tmp_path):
    one, other = read(coco()).sha256, read(coco(annotations=[])).sha256
    assert one != other
    assert read(coco()).sha256 == one


def test_a_bundle_without_labels(tmp_path):
    (tmp_path / "a.xml").write_text(voc(("zebra", (1, 1, 9, 9)), ("1", (1, 1, 9, 9))))
    found = read_annotations(tmp_path / "a.xml", None, 5, class_offset=1).matched_to(["a.jpg"])
    assert found.accepted("a.jpg") == (2,)
    assert said(found) == ["None: class 'zebra': the bundle has no labels to look it up in; its objects are not used"]


def test_the_shared_photos(shared_assets):
    folder = shared_assets / "images"
    found = read_annotations(folder / "annotations.json", None, 1001, class_offset=1)
    photos = photos_of(folder, leave_out=found.mask_files)
    found = found.matched_to(photos)
    assert len(photos) == len(found.entries) == 23
    assert found.accepted("captum_zebra.jpg") == (341,)
    assert {p.image for p in found.problems} == {None}
    np.testing.assert_array_equal(found.region("coral_bird.png", (343, 512), 20), box(36, 72, 486, 302, (343, 512)))
    assert 0.1 < found.region("coral_bird_segmentation.png", (513, 513), 5).mean() < 0.3
