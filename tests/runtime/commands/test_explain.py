"""`fusioncam explain` of many pictures: folders, lists, addresses; lines of JSON, tables, and runs that go on."""

import csv
import io
import json
import shutil
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

GRAD = ("--methods", "grad_cam")


@pytest.fixture
def photos(work, tmp_path):
    """Photos on two levels, two of one stem; one that is damaged; and a file that is none."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.png", "b.png", "sub/a.png"):
        shutil.copy(work / "one.png", folder / name)
    shutil.copy(work / "two.jpg", folder / "a.jpg")
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("read me")
    return folder


def stems(out):
    return sorted(path.relative_to(out).as_posix().removesuffix(".npz") for path in out.rglob("*.npz"))


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


class TestNames:
    def test_a_folder_keeps_its_subfolders_and_loses_no_result(self, run, bundle, photos, tmp_path):
        status, out, err = run("explain", bundle, photos, "-r", "-o", tmp_path / "out", *GRAD)
        assert status == 1
        assert stems(tmp_path / "out") == ["a", "a_2", "b", "sub/a"]
        assert [line.partition(":")[0] for line in out.splitlines()] == ["a.jpg", "a.png", "b.png", "sub/a.png"]
        failed, note = err.splitlines()
        assert failed.startswith("error: ")
        assert "broken.jpg" in failed
        assert note == "note: 1 other file in the folders was skipped"
        record = json.loads((tmp_path / "out" / "a_2.json").read_text())
        assert record["image"] == str(photos / "a.png")

    def test_without_r_subfolders_are_left_alone(self, run, bundle, photos, tmp_path):
        run("explain", bundle, photos, "-o", tmp_path / "out", *GRAD)
        assert stems(tmp_path / "out") == ["a", "a_2", "b"]

    def test_a_folder_without_a_photo_is_one_line(self, run, bundle, tmp_path, only_line):
        (tmp_path / "empty").mkdir()
        status, out, err = run("explain", bundle, tmp_path / "empty", "-o", tmp_path / "out")
        assert (status, out) == (1, "")
        assert "holds no photo" in only_line(err)
        assert not (tmp_path / "out").exists()

    def test_results_may_lie_in_the_folder_but_not_be_it(self, run, bundle, photos, only_line):
        (photos / "broken.jpg").unlink()
        for _ in range(2):
            status, _, err = run("explain", bundle, photos, photos / "*.png", "-r", "-o", photos / "out", *GRAD, "-q")
            assert (status, err) == (0, "")
            assert stems(photos / "out") == ["a", "a_2", "a_3", "b", "b_2", "sub/a"]
        status, _, err = run("explain", bundle, photos, "-o", photos)
        assert status == 2
        assert "is the folder of the photos" in only_line(err)

    @pytest.mark.parametrize(("option", "end"), [([], b"\n"), (["-0"], b"\0")])
    def test_names_come_on_standard_input(self, run, bundle, photos, tmp_path, monkeypatch, only_line, option, end):
        def with_input(data):
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
            return run("explain", bundle, "-", *option, "-o", tmp_path / "out", *GRAD)

        names = [str(photos / name).encode() for name in ("a.png", "gone.png", "sub/a.png")]
        status, out, err = with_input(end.join(names) + end)
        assert (status, len(out.splitlines())) == (1, 2)
        assert "there is no picture" in only_line(err)
        assert stems(tmp_path / "out") == ["a", "a_2"]
        status, _, err = with_input(b"")
        assert status == 2
        assert "no picture is named on standard input" in only_line(err)

    def test_pictures_of_a_bucket_and_of_an_archive(self, run, bundle, photos, tmp_path, only_line, load_maps):
        fsspec = pytest.importorskip("fsspec")
        files = fsspec.filesystem("memory")
        for name in ("a.png", "sub/a.png"):
            files.pipe_file(f"/bucket/{name}", (photos / name).read_bytes())
        with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
            archive.write(photos / "b.png", "in/b.png")
        addresses = ("memory://bucket", f"zip://::{tmp_path / 'p.zip'}", "memory://bucket/gone.png")
        status, out, err = run("explain", bundle, *addresses, "-r", "-o", tmp_path / "out", *GRAD, "--json")
        assert status == 1
        assert "there is no picture 'memory://bucket/gone.png'" in only_line(err)
        assert stems(tmp_path / "out") == ["a", "in/b", "sub/a"]
        found = json.loads(out)
        assert found["failed"] == [
            {"image": "memory://bucket/gone.png", "error": err.removeprefix("error: ").strip(), "kind": "image"}
        ]
        assert [e["image"] for e in found["explanations"]][:2] == ["memory://bucket/a.png", "memory://bucket/sub/a.png"]
        assert run("explain", bundle, photos / "a.png", "-o", tmp_path / "here", *GRAD)[0] == 0
        elsewhere, here = (load_maps(tmp_path / folder / "a.npz")["grad_cam"] for folder in ("out", "here"))
        np.testing.assert_array_equal(elsewhere, here)
        status, _, err = run("explain", bundle, "nowhere://x", "-o", tmp_path / "none")
        assert status == 2
        assert "nowhere://" in only_line(err)

    def test_results_stay_on_this_machine(self, run, bundle, photos, tmp_path, monkeypatch, only_line):
        monkeypatch.chdir(tmp_path)
        for command in ("explain", "evaluate"):
            status, _, err = run(command, bundle, photos, "-o", "s3://bucket/out")
            assert status == 2
            assert "results go into a folder on this machine" in only_line(err)
        assert [path.name for path in tmp_path.iterdir()] == ["photos"]

    def test_no_file_of_the_users_is_overwritten(self, run, bundle, photos, tmp_path):
        """Annotations beside photos have their names; the pictures without such a file are explained."""
        out = tmp_path / "out"
        out.mkdir()
        (out / "b.json").write_text('{"boxes": []}')
        status, _, err = run("explain", bundle, photos, "-o", out, *GRAD)
        assert status == 1
        assert "the results of" in err
        assert "could overwrite a file in" in err
        assert (out / "b.json").read_text() == '{"boxes": []}'
        assert stems(out) == ["a", "a_2"]

    def test_a_name_that_cannot_be_written_is_reported_and_the_others_go_on(self, run, bundle, photos, tmp_path):
        shutil.copy(photos / "b.png", photos / f"{'a' * 251}.png")
        (photos / "a.npz").mkdir()
        shutil.copy(photos / "b.png", photos / "a.npz" / "c.png")
        (photos / "broken.jpg").unlink()
        status, out, _ = run("explain", bundle, photos, "", "-r", "-o", tmp_path / "out", *GRAD, "--jsonl")
        assert status == 1
        failed = {line["image"][len(str(photos)) :][:3]: line["error"] for line in lines(out) if "error" in line}
        assert [error["kind"] for error in failed.values()] == ["output", "output", "image"]
        assert "name too long" in failed["/aa"]["message"]
        assert "a file is in the way" in failed["/a."]["message"]
        assert stems(tmp_path / "out") == ["a", "a_2", "b", "sub/a"]


class TestJsonLines:
    def test_a_line_for_each_picture_failures_too(self, run, bundle, photos, tmp_path):
        status, out, err = run("explain", bundle, photos, "-o", tmp_path / "out", *GRAD, "--jsonl", "-k", "2")
        assert status == 1
        found = lines(out)
        assert [line["image"] for line in found] == [str(photos / n) for n in ("a.jpg", "a.png", "b.png", "broken.jpg")]
        assert found[-1]["error"]["kind"] == "image"
        assert f"error: {found[-1]['error']['message']}" in err.splitlines()
        for line in found[:-1]:
            assert line["kept"] is False
            assert len(line["explanations"]) == 2
            for record in line["explanations"]:
                assert record == json.loads(Path(record["maps"]).with_suffix(".json").read_text())

    def test_an_error_that_ends_it_is_a_line_too(self, run, bundle, tmp_path, only_line):
        status, out, err = run("explain", bundle, "one.png", "-o", tmp_path / "out", "--jsonl", "-c", "9")
        assert status == 2
        (line,) = lines(out)
        assert f"error: {line['error']['message']}" == only_line(err)
        assert run("explain", bundle, "one.png", "--json", "--jsonl")[0] == 2


class TestResume:
    @pytest.fixture
    def explain(self, run, bundle, photos, tmp_path):
        (photos / "broken.jpg").unlink()

        def explain(*options):
            status, out, err = run("explain", bundle, photos, "-r", "-o", tmp_path / "out", *GRAD, "--jsonl", *options)
            made = [line["image"] for line in lines(out) if line.get("kept") is False]
            return status, [image[len(str(photos)) + 1 :] for image in made], err

        return explain

    def test_what_is_there_is_kept_and_the_rest_is_made(self, explain, photos, tmp_path):
        out = tmp_path / "out"
        assert explain("--resume")[1] == ["a.jpg", "a.png", "b.png", "sub/a.png"]
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
        status, made, err = explain("--resume")
        assert (status, made) == (0, [])
        assert "note: the results of 4 pictures were there already, and were kept" in err
        assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
        (out / "b.png").unlink()  # as a kill between two files leaves it
        (out / "sub" / "a.json").write_text('{"image"')
        cv2.imwrite(str(photos / "a.png"), np.zeros((9, 9, 3), np.uint8))  # another picture of this name
        (out / "sub" / "a.json").unlink()
        for name in ("a.npz", "a.png"):
            (out / "sub" / name).unlink()
        shutil.copy(photos / "b.png", photos / "0.png")
        assert explain("--resume")[1] == ["0.png", "a.png", "b.png", "sub/a.png"]
        assert explain("--resume")[1] == []
        assert explain()[1] == ["0.png", "a.jpg", "a.png", "b.png", "sub/a.png"]

    def test_what_is_cut_short_is_made_again(self, explain, photos, tmp_path):
        out = tmp_path / "out"
        explain()
        (out / "a.npz").write_bytes((out / "a.npz").read_bytes()[:-1])
        (out / "a_2.npz").write_bytes(b"")
        (out / "b.png").write_bytes((out / "b.png").read_bytes()[:200])
        assert explain("--resume")[1] == ["a.jpg", "a.png", "b.png"]
        for field, wrong in (("class_index", [1]), ("passes", None), ("flags", [])):
            record = json.loads((out / "b.json").read_text())
            (out / "b.json").write_text(json.dumps({**record, field: wrong}))
            status, made, err = explain("--resume")
            assert (status, made) == (1, [])
            assert "could overwrite a file in" in err
            assert "'b.npz'; move it away, or choose another folder" in err
            (out / "b.json").write_text(json.dumps(record))
        (out / "b.json").write_text(json.dumps({**record, "explained": []}))
        assert explain("--resume")[1] == ["b.png"]

    def test_folders_may_have_moved_meanwhile(self, run, bundle, photos, explain, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert run("explain", bundle, "photos", "-r", "-o", "out", *GRAD)[0] == 0
        (tmp_path / "out").rename(tmp_path / "moved")
        photos.rename(tmp_path / "album")
        monkeypatch.chdir("/")
        given = ("-r", "-o", tmp_path / "moved", *GRAD, "--resume", "--jsonl", "--table", "csv")
        _, out, _ = run("explain", bundle, tmp_path / "album", *given)
        assert [line["kept"] for line in lines(out)] == [True] * 4
        (record,) = lines(out)[-1]["explanations"]
        assert record["image"] == str(tmp_path / "album" / "sub" / "a.png")
        assert (record["maps"], record["picture"]) == tuple(
            str(tmp_path / "moved" / "sub" / n) for n in ("a.npz", "a.png")
        )
        with (tmp_path / "moved" / "explanations.csv").open(newline="") as file:
            *_, row = csv.DictReader(file)
        assert [row[name] for name in ("image", "maps", "picture")] == [
            record[name] for name in ("image", "maps", "picture")
        ]

    def test_a_picture_that_comes_between_takes_no_name(self, explain, photos, tmp_path):
        assert explain("--resume")[1] == ["a.jpg", "a.png", "b.png", "sub/a.png"]
        cv2.imwrite(str(photos / "a.bmp"), np.full((9, 9, 3), 99, np.uint8))
        assert explain("--resume")[1] == ["a.bmp"]
        assert stems(tmp_path / "out") == ["a", "a_2", "a_3", "b", "sub/a"]

    @pytest.mark.parametrize("classes", [("-k", "2"), ("-c", "0,1"), ("--above", "0.2")])
    def test_all_classes_of_a_picture_count(self, explain, tmp_path, classes):
        assert len(explain(*classes)[1]) == 4
        assert explain("--resume", *classes)[1] == []
        record = sorted((tmp_path / "out").glob("b-*.json"))[0]
        record.unlink()
        for ending in (".npz", ".png"):
            record.with_suffix(ending).unlink()
        assert explain("--resume", *classes)[1] == ["b.png"]

    @pytest.mark.parametrize(
        ("options", "change"),
        [
            (("--style", "contour"), "style was heat, is now contour"),
            (("--verify",), "verify was False, is now True"),
            (("-c", "1"), "classes was none, is now 1"),
        ],
    )
    def test_other_settings_are_refused(self, explain, options, change, only_line):
        explain()
        status, made, err = explain("--resume", *options)
        assert (status, made) == (2, [])
        assert change in only_line(err)
        assert "leave out --resume" in err


class TestTable:
    def test_a_row_for_each_explanation_and_each_failure(self, run, bundle, photos, tmp_path):
        given = ("explain", bundle, photos, "-o", tmp_path / "out", *GRAD, "--no-panel", "-k", "2")
        for options in (("--table", "csv"), ("--table", "csv", "--resume")):
            assert run(*given, *options)[0] == 1
            with (tmp_path / "out" / "explanations.csv").open(newline="") as file:
                rows = list(csv.DictReader(file))
            assert [row["image"] for row in rows] == [
                str(photos / name) for name in ("a.jpg", "a.jpg", "a.png", "a.png", "b.png", "b.png", "broken.jpg")
            ]
            assert "is not a picture" in rows[-1]["error"]
            record = json.loads((tmp_path / "out" / f"a-{rows[0]['class_index']}.json").read_text())
            assert float(rows[0]["probability"]) == record["probability"]
            assert (rows[0]["maps"], rows[0]["picture"]) == (record["maps"], "")
        assert not list((tmp_path / "out").glob("*.png"))
        pytest.importorskip("pyarrow")
        import pyarrow.parquet

        assert run(*given, "--table", "parquet", "--resume")[0] == 1
        table = pyarrow.parquet.read_table(tmp_path / "out" / "explanations.parquet").to_pylist()
        assert [row["label"] for row in table[:-1]] == [row["label"] for row in rows[:-1]]
        assert table[-1]["class_index"] is None
