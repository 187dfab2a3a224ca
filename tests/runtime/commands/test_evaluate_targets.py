"""`fusioncam evaluate` of segmenters and embeddings: rows, tables and reports of targets, and bad input."""

import csv
import json

import cv2
import numpy as np
import pytest

QUICK = ("--methods", "grad_cam,layer_cam", "--metrics", "drop,insertion", "--steps", 4)


@pytest.fixture
def photos(tmp_path):
    """Four photos of the size of the models' input."""
    rng = np.random.default_rng(5)
    (tmp_path / "photos").mkdir()
    for n in range(4):
        pixels = cv2.resize(rng.integers(0, 256, (5, 7, 3), np.uint8), (32, 24))
        cv2.imwrite(str(tmp_path / "photos" / f"{n}.png"), pixels)
    return tmp_path / "photos"


@pytest.fixture
def mask(tmp_path):
    """A mask for the photos, and annotations by it."""
    inside = np.zeros((24, 32), np.uint8)
    inside[4:16, 6:20] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), inside)

    def annotations(**changes):
        listed = [{"file": f"{n}.png", "accept_classes": [1], "mask": "mask.png", **changes} for n in range(4)]
        (tmp_path / "notes.json").write_text(json.dumps(listed))
        return tmp_path / "notes.json"

    return annotations


def table(out):
    with (out / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def lines(out):
    return [json.loads(line) for line in (out / "rows.jsonl").read_bytes().splitlines()]


def test_results_name_the_targets_of_a_segmenter(run, target_bundle, photos, tmp_path):
    out, bundle = tmp_path / "out", target_bundle("segment").bundle
    assert run("evaluate", bundle, photos, "-o", out, *QUICK)[0] == 0
    summary, rows = json.loads((out / "summary.json").read_bytes()), lines(out)
    assert summary["photos"]["evaluated"] == 4 < len(rows)
    assert summary["about"]["targets_explained"] == "default targets of each photo"
    assert len(table(out)) == 2 * len(rows)
    assert {(line["image"], line["target"], line["title"]) for line in table(out)} == {
        (row["image"], row["target"], row["title"]) for row in rows
    }
    assert sum(len(list(out.glob(f"pictures/{n}-*"))) for n in range(4)) == 2 * len(rows)
    page = (out / "report.html").read_text()
    assert "By target" in page
    for title in {row["title"] for row in rows}:
        assert title in page
        of_title = [row for row in rows if row["title"] == title]
        (found,) = (target for target in summary["targets"] if target["title"] == title)
        drops = [row["methods"]["grad_cam"]["metrics"]["drop"] for row in of_title]
        assert (found["photos"], found["methods"]["grad_cam"]["drop"]) == (len(of_title), pytest.approx(np.mean(drops)))
    # A photo counts once, by the mean over its targets.
    of_photos = [
        np.mean([row["methods"]["grad_cam"]["metrics"]["drop"] for row in rows if row["image"] == image])
        for image in sorted({row["image"] for row in rows})
    ]
    drop = summary["methods"]["grad_cam"]["metrics"]["drop"]
    assert (drop["n"], drop["mean"]) == (4, pytest.approx(np.mean(of_photos)))


def test_a_run_that_ended_amid_the_targets_of_a_photo_goes_on(run, target_bundle, photos, tmp_path):
    out, arguments = tmp_path / "out", ("evaluate", target_bundle("segment").bundle, photos, *QUICK, "-o")
    assert run(*arguments, out)[0] == 0
    whole, results = (out / "rows.jsonl").read_bytes().splitlines(keepends=True), (out / "summary.json").read_bytes()
    assert lines(out)[0]["targets"] > 1
    kept = b"".join(whole[: lines(out)[0]["targets"] + 1])
    (out / "rows.jsonl").write_bytes(kept)
    assert run(*arguments, out)[0] == 0
    after = (out / "rows.jsonl").read_bytes()
    assert after.startswith(kept)
    assert after.count(b"\n") == len(whole) + 1  # the second photo is evaluated again, as a whole
    assert (out / "summary.json").read_bytes() == results


def test_annotations_of_maps_name_the_targets(run, target_bundle, photos, mask, tmp_path):
    bundle = target_bundle("segment").bundle
    for options, explained in (((), "annotated"), (("--target", "top"), "top")):
        out = tmp_path / explained
        assert run("evaluate", bundle, photos, "--annotations", mask(), "-o", out, *QUICK, *options)[0] == 0
        rows = lines(out)
        assert (len(rows) == 4) == (explained == "annotated")
        of_class = [row for row in rows if row["class_index"] == 1]
        assert all("energy" in row["methods"]["grad_cam"]["metrics"] for row in of_class)
        assert {row["correct"] for row in rows} == {None}
    other = tmp_path / "annotated"
    status, _, err = run("evaluate", bundle, photos, "--annotations", mask(), "-o", other, *QUICK, "--target", "top")
    assert status == 2
    assert "other settings (target was annotated, is now top)" in err


def test_masks_of_another_size_and_classes_the_model_lacks_are_named(run, target_bundle, photos, mask, tmp_path):
    cv2.imwrite(str(tmp_path / "small.png"), np.full((12, 16), 255, np.uint8))
    bundle = target_bundle("segment").bundle
    for n, (changes, line) in enumerate(
        (
            ({"mask": "small.png"}, "object 1 of 1 could not be used: the mask is 16 x 12, not 32 x 24"),
            ({"accept_classes": ["zebra"]}, "class 'zebra': the bundle has no labels to look it up in"),
        )
    ):
        out = tmp_path / f"out{n}"
        status, _, err = run("evaluate", bundle, photos, "--annotations", mask(**changes), "-o", out, *QUICK)
        assert status == 0
        assert line in err


def test_pairs_name_the_references_of_embeddings(run, target_bundle, photos, tmp_path):
    bundle, out = target_bundle("embed").bundle, tmp_path / "out"
    np.save(tmp_path / "text.npy", np.arange(6, dtype=np.float32) - 2)
    (tmp_path / "pairs.csv").write_text(
        "picture,reference\n0.png,photos/3.png\n0.png,text.npy\n1.png,photos/3.png\n9.png,photos/3.png\n"
    )
    status, _, err = run("evaluate", bundle, photos, "--pairs", tmp_path / "pairs.csv", "-o", out, *QUICK)
    assert status == 0
    assert "9.png: named in pairs.csv, but not among the photos" in err
    assert "2.png and 1 more: no reference in pairs.csv: left out" in err
    assert [(row["image"], row["title"]) for row in lines(out)] == [
        ("0.png", "like 3.png"), ("0.png", "like text.npy"), ("1.png", "like 3.png"),
    ]  # fmt: skip
    assert "like 3.png" in (out / "report.html").read_text()
    before = (out / "rows.jsonl").read_bytes()
    assert run("evaluate", bundle, photos, "--pairs", tmp_path / "pairs.csv", "-o", out, *QUICK)[0] == 0
    assert (out / "rows.jsonl").read_bytes() == before
    np.save(tmp_path / "text.npy", np.arange(6, dtype=np.float32))
    status, _, err = run("evaluate", bundle, photos, "--pairs", tmp_path / "pairs.csv", "-o", out, *QUICK)
    assert status == 2
    assert "other settings (references was" in err


def test_one_reference_is_no_photo_itself(run, target_bundle, photos, tmp_path):
    out = tmp_path / "out"
    given = ("evaluate", target_bundle("embed").bundle, photos, "--like", photos / "3.png", "-o", out)
    assert run(*given, *QUICK)[0] == 0
    assert [row["image"] for row in lines(out)] == ["0.png", "1.png", "2.png"]


@pytest.mark.parametrize(
    ("kind", "options", "line"),
    [
        ("embed", (), "an embedding is measured beside references: give --like FILE, or --pairs FILE.csv"),
        ("embed", ("--like", "nothing.png"), "there is no reference nothing.png"),
        ("embed", ("--like", "five.npy"), "the reference has 5 numbers, but the embedding 6"),
        ("embed", ("--like", "five.npy", "--pairs", "pairs.csv"), "--like and --pairs both name references"),
        ("embed", ("--pairs", "three.csv"), "line 1: write two columns, the picture and its reference, not 3"),
        ("embed", ("--pairs", "lost.csv"), "line 2: there is no file 'lost.png' in the folder of the table"),
        ("embed", ("--pairs", "others.csv"), "others.csv names no photo of the folder"),
        ("embed", ("--pairs", "photos"), "photos cannot be read as a table of pairs"),
        ("embed", ("--annotations", "notes.json", "--target", "annotated", "--like", "photos/0.png"),
         "--target annotated is about classes, and the model gives an embedding: leave it out"),
        ("segment", ("--like", "photos/0.png"), "--like and --pairs are for embeddings, and the model segments"),
        ("segment", ("--target", "annotated"), "name their file with --annotations"),
        ("value", ("--target", "best"), "no target 'best'; use top or annotated"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line_and_leaves_nothing(
    run, target_bundle, photos, tmp_path, monkeypatch, only_line, kind, options, line
):
    monkeypatch.chdir(tmp_path)
    np.save("five.npy", np.ones(5, np.float32))
    for name, text in (
        ("three.csv", "0.png,1.png,2.png"),
        ("lost.csv", "0.png,photos/1.png\n1.png,lost.png"),
        ("others.csv", "a.png,photos/1.png"),
        ("pairs.csv", "0.png,photos/1.png"),
        ("notes.json", '[{"file": "0.png", "boxes": [[0, 0, 9, 9]]}]'),
    ):
        (tmp_path / name).write_text(text)
    status, _, err = run("evaluate", target_bundle(kind).bundle, photos, *options, "-o", "out")
    assert status == 2
    assert line in only_line(err)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("kind", "does"), [("segment", "segments"), ("embed", "gives an embedding")])
def test_bench_refuses_what_has_no_vector_of_classes(run, target_bundle, only_line, kind, does):
    status, _, err = run("bench", target_bundle(kind).bundle)
    assert status == 2
    assert f"bench measures models of classes and values, and this one {does}" in only_line(err)
