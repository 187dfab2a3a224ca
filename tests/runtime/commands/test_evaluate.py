"""`fusioncam evaluate`: killed and started again, on bad photos, bad annotations and bad options."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from fusioncam.runtime.evaluation.metrics.catalogue import choices_of_metrics

RESULTS = ("report.html", "results.csv", "summary.json")
QUICK = ("--methods", "grad_cam,layer_cam", "--metrics", "drop")


@pytest.fixture
def photos(tmp_path):
    """Eight small photos, of 60 x 40 pixels."""
    return write_photos(tmp_path / "photos", 8)


def write_photos(folder, count):
    rng = np.random.default_rng(5)
    folder.mkdir()
    for n in range(count):
        pixels = cv2.resize(rng.integers(0, 256, (4, 6, 3), np.uint8), (60, 40))
        cv2.imwrite(str(folder / f"{n:02}.png"), pixels)
    return folder


def table(out):
    with (out / "results.csv").open(newline="") as file:
        return [{**line, "seconds": ""} for line in csv.DictReader(file)]


def images(out):
    return [json.loads(line)["image"] for line in (out / "rows.jsonl").read_bytes().splitlines()]


def start(arguments, rows, count):
    """The command in a process of its own, once it has written so many rows more."""
    before = rows.read_bytes().count(b"\n") if rows.exists() else 0
    process = subprocess.Popen(
        [sys.executable, "-m", "fusioncam", *map(str, arguments)], stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and (not rows.exists() or rows.read_bytes().count(b"\n") < before + count):
        time.sleep(0.01)
    return process


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL on Windows")
def test_interrupted_and_killed_it_ends_with_the_same_results(run, bundle, tmp_path):
    folder, whole, out = write_photos(tmp_path / "photos", 30), tmp_path / "whole", tmp_path / "out"
    arguments = ("evaluate", bundle, folder, "--steps", 300, "--chunk", 8, "--threads", 1, "-o")
    process = start((*arguments, out), out / "rows.jsonl", 3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err == "error: interrupted; no incomplete file is left behind\n"
    first = (out / "rows.jsonl").read_bytes()
    assert not any((out / name).exists() for name in RESULTS)
    process = start((*arguments, out), out / "rows.jsonl", 3)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    second = (out / "rows.jsonl").read_bytes()
    kept = second[: second.rindex(b"\n") + 1]
    assert kept.startswith(first)
    assert 6 <= kept.count(b"\n") < 30
    status, printed, err = run(*arguments, out, "--json")
    assert (status, err) == (0, "")
    assert (out / "rows.jsonl").read_bytes().startswith(kept)
    assert images(out) == sorted(file.name for file in folder.iterdir())
    assert run(*arguments, whole)[0] == 0
    assert (out / "summary.json").read_bytes() == (whole / "summary.json").read_bytes()
    assert json.loads(printed) == json.loads((whole / "summary.json").read_bytes())
    assert table(out) == table(whole)
    assert (out / "report.html").read_bytes() == (whole / "report.html").read_bytes()
    assert not list(out.glob(".*.tmp"))


def test_finished_it_computes_nothing_again_and_other_settings_are_refused(run, bundle, photos, tmp_path, only_line):
    out = tmp_path / "out"
    assert run("evaluate", bundle, photos, "-o", out, *QUICK)[0] == 0
    rows, summary = (out / "rows.jsonl").read_bytes(), (out / "summary.json").read_bytes()
    assert run("evaluate", bundle, photos, "-o", out, *QUICK, "--threads", 1, "--chunk", 3)[0] == 0
    assert ((out / "rows.jsonl").read_bytes(), (out / "summary.json").read_bytes()) == (rows, summary)
    for changed, words in (
        (("--budget", "auto"), "budget was exact, is now auto"),
        (("--class-offset", 1), "class_offset was 0, is now 1"),
        (("--methods", "grad_cam"), "methods was grad_cam, layer_cam, is now grad_cam"),
        (("--steps", 9), "steps was 32, is now 9"),
        (("--tolerance", 2), "tolerance was 0.0, is now 2.0"),
    ):
        status, _, err = run("evaluate", bundle, photos, "-o", out, *QUICK, *changed)
        assert status == 2
        assert words in only_line(err)
        assert "--restart" in err
    assert (out / "rows.jsonl").read_bytes() == rows
    assert run("evaluate", bundle, photos, "-o", out, *QUICK, "--steps", 9, "--restart")[0] == 0
    assert (out / "rows.jsonl").read_bytes() != rows
    assert images(out) == [f"{n:02}.png" for n in range(8)]


def test_the_means_are_printed_one_line_per_method(run, bundle, photos, tmp_path):
    status, out, err = run("evaluate", bundle, photos, "-o", tmp_path / "out", "--methods", "fusion_cam,grad_cam")
    assert (status, err) == (0, "")
    means = json.loads((tmp_path / "out" / "summary.json").read_bytes())["methods"]
    _, *lines, about, end = out.splitlines()
    assert len(lines) == 2
    for line, found in zip(lines, means.values(), strict=True):
        assert all(f"{facts['mean']:.3f}" in line for facts in found["metrics"].values())
    assert "95 %" in about
    assert end.startswith("8 of 8 photos evaluated")


def test_parquet_holds_what_csv_holds(run, bundle, photos, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    (photos / "03.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    assert run("evaluate", bundle, photos, "-o", out, *QUICK)[0] == 0
    assert run("evaluate", bundle, photos, "-o", out, *QUICK, "--table", "parquet")[0] == 0
    lines = parquet.read_table(out / "results.parquet").to_pylist()
    read = [{k: "" if v is None else str(v) for k, v in line.items()} | {"seconds": ""} for line in lines]
    assert read == table(out)
    assert len(read) == 7 * 2 + 1


def test_shuffled_weights_are_compared_with(run, bundle, photos, tmp_path):
    status, out, _ = run("evaluate", bundle, photos, "-o", tmp_path / "out", *QUICK, "--sanity", "--json")
    found = [m["metrics"]["sanity"]["mean"] for m in json.loads(out)["methods"].values()]
    assert status == 0
    assert all(0 <= mean < 1 for mean in found)


def test_photos_and_annotations_that_do_not_fit_are_named_and_the_rest_goes_on(run, bundle, photos, tmp_path):
    out = tmp_path / "out"
    (photos / "03.png").write_bytes((photos / "03.png").read_bytes()[:100])
    entries = [
        {"file": "00.png", "accept_classes": ["crane"], "boxes": [[5, 5, 30, 30]]},
        {"file": "01.png", "accept_classes": ["griffin"], "boxes": [[0, 0, 20, 20]]},
        {"file": "02.png", "accept_classes": [0, 1, 2, 3], "boxes": [[70, 50, 90, 60], [50, 20, 90, 30]]},
        {"file": "04.png", "boxes": [[10, 10, 5, "x"]]},
        {"file": "gone.png", "accept_classes": [1], "boxes": [[0, 0, 9, 9]]},
    ]
    (tmp_path / "notes.json").write_text(json.dumps(entries))
    asked = ("evaluate", bundle, photos, "-o", out, *QUICK, "--annotations", tmp_path / "notes.json")
    status, printed, err = run(*asked)
    assert status == 0
    summary = json.loads((out / "summary.json").read_bytes())
    assert summary["photos"]["evaluated"] == 7
    assert summary["photos"]["annotated"] == 2
    assert [failed["image"] for failed in summary["failed"]] == ["03.png"]
    problems = [(p["image"], p["text"]) for p in summary["problems"]]
    page = (out / "report.html").read_text()
    for image, words in (
        (None, "griffin"),
        ("gone.png", "not among the photos"),
        ("05.png", "no annotation"),
        ("02.png", "object 1 of 2 lies outside the photo"),
        ("02.png", "object 2 of 2 reaches beyond the photo"),
        ("04.png", "box 1 was left out"),
    ):
        (text,) = [text for name, text in problems if name == image and words in text]
        assert words in page
        assert image is None or image in page
        assert text  # what was found, where an assertion fails
    assert "7 of 8 photos evaluated" in printed
    assert "failed: 03.png" in err
    assert "griffin" in err
    pointed = [line["image"] for line in table(out) if line["pointing"]]
    assert {"01.png", "02.png"} <= set(pointed) <= {"00.png", "01.png", "02.png"}  # 00.png where it is a crane
    shutil.copy(photos / "00.png", photos / "03.png")
    status, printed, err = run(*asked, "--quiet")
    assert (status, err) == (0, "")
    assert images(out)[-1] == "03.png"
    assert json.loads((out / "summary.json").read_bytes())["photos"]["evaluated"] == 8


def test_it_fails_only_where_nothing_could_be_evaluated(run, bundle, tmp_path):
    photos = write_photos(tmp_path / "photos", 2)
    for name in ("00.png", "01.png"):
        (photos / name).write_bytes(b"no picture")
    status, printed, err = run("evaluate", bundle, photos, "-o", tmp_path / "out", *QUICK)
    assert status == 1
    assert "0 of 2 photos evaluated" in printed
    assert err.startswith("failed: 00.png")
    assert all((tmp_path / "out" / name).exists() for name in RESULTS)
    (photos / "sub").mkdir()
    shutil.copy(write_photos(tmp_path / "more", 1) / "00.png", photos / "sub")
    assert run("evaluate", bundle, photos, "-o", tmp_path / "out", *QUICK)[0] == 1
    assert run("evaluate", bundle, photos, "-o", tmp_path / "out", *QUICK, "--recursive")[0] == 0


def test_names_that_are_no_markup_and_no_text(run, bundle, tmp_path):
    photos = write_photos(tmp_path / "photos [red]", 1)
    odd = os.fsdecode(b"[bold]caf\xe9\n<b>.png")
    shutil.copy(photos / "00.png", photos / odd)
    (photos / "[bold].png").write_bytes(b"no picture")
    status, _, err = run("evaluate", bundle, photos, "-o", tmp_path / "out [red]", *QUICK)
    assert status == 0
    assert err.startswith("failed: [bold].png: ")
    assert "<b>.png" not in (tmp_path / "out [red]" / "report.html").read_text()
    assert images(tmp_path / "out [red]") == ["00.png", "[bold].png", odd]
    assert sum("caf" in line["image"] for line in table(tmp_path / "out [red]")) == 2


BAD = [
    (("--methods", "lime"), "lime"),
    (("--methods", ""), "no method chosen"),
    (("--methods", "fusion_cam:layer_cam"), "fusion_cam:layer_cam"),
    (("--metrics", "beauty"), choices_of_metrics()),
    (("--metrics", ""), "nothing to measure"),
    (("--steps", "0"), "1 step or more"),
    (("--steps", "10000000000"), "steps must be from 1 to 576"),
    (("--steps", "many"), "--steps"),
    (("--tolerance=-1",), "tolerance must be from 0 to 24"),
    (("--tolerance", "nan"), "tolerance must be from 0 to 24, not nan"),
    (("--tolerance", "inf"), "tolerance"),
    (("--budget", "much"), "much"),
    (("--budget", "0"), "budget"),
    (("--methods", "score_cam_probability", "--budget", "2"), "use budget exact"),
    (("--workers", "2"), "--workers and --ray-address are for --engine ray"),
    (("--ray-address", "127.0.0.1:1"), "--workers and --ray-address are for --engine ray"),
    (("--metrics", "pointing"), "--annotations adds pointing and energy"),
    (("--target", "best"), "use top or annotated"),
    (("--target", "annotated"), "--annotations"),
    (("--table", "excel"), "use csv or parquet"),
    (("--engine", "steam"), "use local or ray"),
    (("--workers", "0"), "workers must be from 1 to 4096"),
    (("--class-offset", "5"), "class-offset must be from -4 to 4"),
    (("--chunk", "0"), "chunk"),
    (("--threads", "0"), "threads"),
    (("--providers", "abacus"), "abacus"),
    (("--annotations", "missing.json"), "missing.json"),
    (("--annotations", "empty.json"), "empty.json"),
    (("--annotations", "garbage.json"), "neither JSON nor XML"),
    (("--annotations", "nothing.json"), "nothing.json"),
    (("--annotations", "folder"), "no .xml file"),
    (("-o", "photos"), "is the folder of the photos"),
    (("-o", "tiny.fcam"), "is a bundle"),
]


@pytest.mark.parametrize(("options", "words"), BAD, ids=[" ".join(options) for options, _ in BAD])
def test_bad_options_give_one_line_and_leave_nothing(bad_place, options, words, only_line):
    run, listing = bad_place
    before = listing()
    status, out, err = run("evaluate", "tiny.fcam", "photos", "--metrics", "drop", "--methods", "grad_cam", *options)
    assert words in only_line(err)
    assert (status, out) == (2, "")
    assert listing() == before


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("missing.fcam", "photos"), 1, "missing.fcam"),
        (("photos", "photos"), 1, "no bundle"),
        (("tiny.fcam", "missing"), 2, "missing"),
        (("tiny.fcam", "empty.json"), 2, "empty.json"),
        (("tiny.fcam", "folder"), 2, "holds no photo"),
        (("tiny.fcam",), 2, "FOLDER"),
        (("tiny.fcam", "photos", "-o", "empty.json"), 1, "a file is in the way"),
        (("tiny.fcam", "photos", "-o", "other"), 2, "results.csv, which no evaluation wrote"),
    ],
)
def test_bad_places_give_one_line_and_leave_nothing(bad_place, arguments, status, words, only_line):
    run, listing = bad_place
    before = listing()
    ended, out, err = run("evaluate", *arguments)
    assert words in only_line(err)
    assert (ended, out) == (status, "")
    assert listing() == before


@pytest.fixture
def bad_place(run, bundle, listing, tmp_path, monkeypatch):
    """A folder to work in, with a bundle, photos, and files that are of no use."""
    shutil.copytree(bundle, tmp_path / "tiny.fcam")
    write_photos(tmp_path / "photos", 1)
    for folder in ("folder", "other"):
        (tmp_path / folder).mkdir()
    (tmp_path / "other" / "results.csv").write_text("mine")
    for name, content in (("empty", ""), ("garbage", "{]"), ("nothing", "[]")):
        (tmp_path / f"{name}.json").write_text(content)
    monkeypatch.chdir(tmp_path)
    return run, lambda: listing(tmp_path)


def test_results_may_lie_among_the_photos_or_around_them(run, bundle, photos, monkeypatch):
    monkeypatch.chdir(photos)
    for _ in range(2):
        assert run("evaluate", bundle, ".", "-o", "results", "--recursive", *QUICK)[0] == 0
        assert len(images(photos / "results")) == 8
    shutil.rmtree("results")
    assert run("evaluate", bundle, ".", "-o", "..", "--recursive", *QUICK)[0] == 0
    assert len(images(photos.parent)) == 8
