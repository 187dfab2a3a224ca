"""The names in annotations, and the photos they fit."""

import pytest

from fusioncam.runtime.evaluation.annotations import read_annotations


def test_unknown_photos_are_nothing(read, samples):
    found = read(samples.coco(), photos=["a.jpg", "b.jpg"])
    assert samples.said(found)[-1] == "b.jpg: no annotation for this photo"
    assert found.accepted("b.jpg") == ()
    assert not found.region("b.jpg", samples.SIZE, 1).any()
    assert found.problems_of("b.jpg", samples.SIZE) == []


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


def test_voc_by_the_name_of_its_own_file(read, samples):
    for filename in ("", "scan0001.bmp"):
        assert read(samples.voc(("zebra", (1, 1, 9, 9)), filename=filename), name="a.xml").accepted("a.jpg") == (2,)


def test_a_photo_without_a_name_among_several_of_one_file(read, samples):
    parts = [samples.voc(("zebra", (1, 1, 9, 9)), filename=name) for name in (".", "a.jpg", "")]
    found = read(f"<all>{''.join(parts)}</all>", name="all.xml")
    assert found.accepted("a.jpg") == (2,)
    assert samples.said(found) == ["None: an <annotation> has no <filename>"] * 2


def test_a_name_that_names_no_file_in_a_folder_of_xml(tmp_path, samples):
    for name, filename in (("a.xml", "a.jpg"), ("b.xml", "."), ("c.xml", "/")):
        (tmp_path / name).write_text(samples.voc(("zebra", (1, 1, 9, 9)), filename=filename))
    found = read_annotations(tmp_path, samples.LABELS, len(samples.LABELS)).matched_to(["a.jpg", "b.jpg"])
    assert [*found.entries] == ["a.jpg", "b.jpg"]  # then it is called as its own file is
