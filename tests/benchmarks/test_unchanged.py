"""`benchmarks/unchanged.py`: what the comparison tells, and that a store of a small network is the same twice."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def unchanged(part):
    spec = importlib.util.spec_from_file_location("benchmarks_unchanged", ROOT / "benchmarks" / "unchanged.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ({"a": "1", "b": "2"}, {"b": "2", "a": "1"}, []),
        ({"a": "1", "b": "2"}, {"a": "1"}, ["missing: b"]),
        ({"a": "1"}, {"a": "1", "b": "2"}, ["added: b"]),
        ({"a": "1", "b": "2"}, {"a": "3", "b": "2"}, ["differs: a"]),
        ({"a": "1"}, {"a": "error: ValueError: why"}, ["differs: a (error: ValueError: why)"]),
        ({"a": "1", "b": "2"}, {"b": "3", "c": "4"}, ["missing: a", "added: c", "differs: b"]),
    ],
)
def test_every_difference_is_one_line_and_status_one(unchanged, tmp_path, capsys, old, new, lines):
    files = tmp_path / "old.json", tmp_path / "new.json"
    for file, values in zip(files, (old, new), strict=True):
        file.write_text(json.dumps(values))
    assert unchanged.main(["compare", *map(str, files)]) == bool(lines)
    assert capsys.readouterr().out.splitlines() == (lines or [f"{len(new)} digests are the same"])


def test_some_parts_are_compared_alone(unchanged, tmp_path, capsys):
    files = [tmp_path / "old.json", tmp_path / "new.json"]
    for file, mark in zip(files, "12", strict=True):
        file.write_text(
            json.dumps({"maps/a": "same", "options/a": mark, "service/a": "same", f"graphs/{mark}": "same"})
        )
    assert unchanged.main(["compare", *map(str, files), "--only", "maps,service"]) == 1
    assert capsys.readouterr().out.splitlines() == ["differs: options/a"]
    assert unchanged.main(["compare", *map(str, files), "--only", "service"]) == 0
    with pytest.raises(SystemExit):
        unchanged.main(["compare", *map(str, files), "--only", "camera"])
    assert "no part camera" in capsys.readouterr().err


def test_one_bit_of_an_array_its_type_and_its_shape_count(part):
    digest, zeros = part("unchanged.digests").digest, np.zeros((2, 3), np.float32)
    others = [zeros.copy(), zeros.astype(np.float64), zeros.reshape(3, 2), zeros.tobytes(), zeros.tolist()]
    others[0].view(np.uint32)[1, 2] = 1
    assert len({digest(value) for value in (zeros, *others)}) == 6
    assert digest(zeros) == digest(zeros.copy())


def test_times_are_left_out(part):
    digests = part("unchanged.digests")
    told = {"seconds": 1, "timing_seconds": {"explain": 2}, "rows": [{"seconds_decode": 3, "passes": 4}]}
    assert digests.untimed(told) == {"rows": [{"passes": 4}]}
    assert digests.untimed_text("12 photos in 3.4 s, 5 ms each") == "12 photos in T, T each"


def test_pages_are_compared_as_a_browser_shows_them(part):
    shown = part("unchanged.digests").page_content
    assert shown("<p>\n  2&#8209;3 of\n4 <b>now</b>\n</p>\n") == shown("<p>2\u20113 of 4<b>now</b></p>")
    assert shown("<p>2 of 4</p>") != shown("<p>2 of 5</p>")


def test_a_part_that_raises_is_stored_and_the_next_goes_on(part, tmp_path):
    found = part("unchanged.digests").Digests(tmp_path)
    with found.part("one"):
        raise ValueError(f"{tmp_path}/file is bad")
    with found.part("two"):
        found.add("two", "value")
    assert found.values["one"] == "error: ValueError: WORK/file is bad"
    assert len(found.values["two"]) == 64
    with pytest.raises(KeyError):
        found.add("two", "again")


def test_a_store_is_the_same_twice(unchanged, part, shared_assets, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("FUSIONCAM_CACHE", str(tmp_path))  # which a store sets for itself
    subjects = part("unchanged.subjects")
    monkeypatch.setattr(subjects, "QUICK", {subjects.SMALL.rpartition("-")[0]: ("fp32",)})
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    for file in files:
        asked = ["store", str(file), "--quick", "--only", "maps,graphs", "--assets", str(shared_assets)]
        assert unchanged.main(asked) == 0
    assert unchanged.compare(*files) == 0
    stored = json.loads(files[0].read_text())
    assert not [name for name, value in stored.items() if value.startswith("error: ")]
    assert {name.split("/")[0] for name in stored} == {"bundles", "maps", "options", "graphs"}


def test_another_tree_is_refused(unchanged, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FUSIONCAM_CACHE", str(tmp_path))
    with pytest.raises(SystemExit, match="is imported, not that of"):
        unchanged.main(["store", str(tmp_path / "x.json")])
