"""Rows that survive whatever ends the process that writes them."""

import errno
import json
import os
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest

from fusioncam.errors import OutputError, UsageError
from fusioncam.runtime.evaluation.store.store import (
    LOCK,
    PICTURES,
    RESULTS,
    ROWS,
    SETTINGS,
    Store,
    plain,
    sealed,
    thumbnail,
)

SETTINGS_OF = {"model": "abc", "methods": ("grad_cam", "score_cam"), "budget": "exact"}
NAMES = ["a.jpg", "<b>\"&'.jpg", "caf\udce9.png", "line\nbreak.png", "日本.png"]


def names_in(store):
    return [row["image"] for row in store.rows]


def of_each(found):
    return {method: {**found} for method in SETTINGS_OF["methods"]}


def row(image, **facts):
    found = {"metrics": {"drop": 0.5, "road": None}, "curves": {"insertion": [0, 0.5, None]}, "flags": []}
    return {"image": image, **facts, "methods": of_each(found)}


def test_rows_come_back_as_they_were_added(tmp_path):
    curves, kept_curves = {"insertion": np.array([0.25, np.inf])}, {"insertion": [0.25, None]}
    metrics, kept_metrics = {"drop": np.float32(0.5), "road": float("nan")}, {"drop": 0.5, "road": None}
    methods = of_each({"metrics": metrics, "curves": curves})
    with Store(tmp_path / "new" / "out", SETTINGS_OF) as store:
        added = [store.add({"image": name, "size": (3, np.int64(4)), "methods": methods}) for name in NAMES]
    wanted = of_each({"metrics": kept_metrics, "curves": kept_curves})
    assert added == [{"image": name, "size": [3, 4], "methods": wanted} for name in NAMES]
    with Store(tmp_path / "new" / "out", SETTINGS_OF) as store:
        assert store.rows == sorted(added, key=lambda r: r["image"])
        assert all(store.finished(name) for name in NAMES)
        assert not store.finished("other.jpg")


def test_one_that_failed_is_tried_again_and_a_replaced_photo_as_well(tmp_path):
    with Store(tmp_path, SETTINGS_OF) as store:
        store.add({"image": "a", "error": "damaged"})
        store.add(row("b", sha256="1"))
        assert not store.finished("a")
        assert store.finished("b")
        assert store.finished("b", "1")
        assert not store.finished("b", "2")
        store.add(row("a", seconds=1))
        assert store.finished("a", "whatever")
    with Store(tmp_path, SETTINGS_OF) as store:
        assert store.rows == [row("a", seconds=1), row("b", sha256="1")]


@pytest.mark.parametrize(
    "torn", [b'{"image":"c"', b'{"image":"c"}', b"\0\0\0\0", b'{"image":"c","x":"\xe6', sealed(b'{"image":"c"}')[:-1]]
)
def test_a_line_that_was_cut_short_goes(tmp_path, torn):
    with Store(tmp_path, SETTINGS_OF) as store:
        store.add(row("a"))
        store.add(row("b"))
    with (tmp_path / ROWS).open("ab") as file:
        file.write(torn)
    for _ in range(2):
        with Store(tmp_path, SETTINGS_OF) as store:
            assert names_in(store)[:2] == ["a", "b"]
            assert not store.finished("c")
            store.add(row("c", seconds=1))
        with Store(tmp_path, SETTINGS_OF) as store:
            assert store.rows == [row("a"), row("b"), row("c", seconds=1)]
        lines = (tmp_path / ROWS).read_bytes().splitlines(keepends=True)
        (tmp_path / ROWS).write_bytes(b"".join(lines[:2]) + torn)


GOOD = {
    **row("c", sha256="1", size=[3, 4], correct=None, label=None, problems=[], passes={"run": 5, "missing": 0.5}),
    "accepted": [1],
}
METHOD = GOOD["methods"]["grad_cam"]


def with_method(**changes):
    return {**GOOD, "methods": {**GOOD["methods"], "grad_cam": {**METHOD, **changes}}}


@pytest.mark.parametrize(
    "damaged",
    [
        {"image": "c"},
        {"image": "c", "sha256": "1"},
        {"image": "c", "methods": 5},
        {"image": "c", "methods": {}},
        {"image": "c", "methods": {"grad_cam": METHOD}},
        {"image": "c", "methods": dict.fromkeys(SETTINGS_OF["methods"])},
        {"image": "c", "error": None},
        {**GOOD, "image": 3},
        *({**GOOD, "size": size} for size in (None, [3], [3, "4"], [3, 4, 5])),
        *({**GOOD, key: "text"} for key in ("class_index", "probability", "accepted", "correct", "passes", "problems")),
        {**GOOD, "label": 3},
        {**GOOD, "class_index": 10**30},
        {**GOOD, "passes": {"run": 0.5}},
        {**GOOD, "correct": 1},
        {**GOOD, "seconds": float("nan")},
        *(with_method(metrics=metrics) for metrics in ([], None, {"drop": "0.5"}, {"drop": True}, {"drop": [0.5]})),
        *(with_method(metrics={"drop": figure}) for figure in (1e308, float("inf"), 10**400)),
        *(with_method(curves=curves) for curves in (5, {"insertion": 5}, {"insertion": ["0.5"]})),
        *(with_method(flags=flags) for flags in (None, "blank_map", [1], [["a"]])),
        with_method(picture=3),
    ],
    ids=lambda row: json.dumps(row)[-60:],
)
def test_a_row_that_is_json_but_damaged_is_done_again(tmp_path, damaged):
    with Store(tmp_path, SETTINGS_OF) as store:
        store.add(row("a"))
        store.add(GOOD)
    with (tmp_path / ROWS).open("ab") as file:
        file.write(sealed(json.dumps(damaged).encode()))
    with pytest.warns(RuntimeWarning, match="1 row was damaged"), Store(tmp_path, SETTINGS_OF) as store:
        assert store.rows == [row("a"), GOOD]  # what was there before the damaged one counts
    lines = (tmp_path / ROWS).read_bytes().splitlines(keepends=True)
    assert len(lines) == 2
    (tmp_path / ROWS).write_bytes(lines[0] + sealed(json.dumps(damaged).encode()))
    with pytest.warns(RuntimeWarning, match="1 row was damaged"):
        store = Store(tmp_path, SETTINGS_OF)
    with store:
        assert store.rows == [row("a")]
        assert not store.finished("c")


@pytest.mark.filterwarnings("ignore:.* damaged; their photos are evaluated again:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:.* was damaged:RuntimeWarning")
def test_a_flipped_bit_in_a_row_is_seen(tmp_path):
    with Store(tmp_path, SETTINGS_OF) as store:
        for name in "abc":
            store.add(row(name, seconds=0.25))
    whole = (tmp_path / ROWS).read_bytes()
    for bit in range(0, 8 * len(whole), 61):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        (tmp_path / ROWS).write_bytes(damaged)
        with Store(tmp_path, SETTINGS_OF) as store:
            assert len(store.rows) < 3
            assert all(found in [row(name, seconds=0.25) for name in "abc"] for found in store.rows)


def test_a_row_of_a_thousand_brackets(tmp_path):
    with Store(tmp_path, SETTINGS_OF) as store:
        store.add(row("a"))
    with (tmp_path / ROWS).open("ab") as file:
        file.write(sealed(b"{" + b"[" * 100_000 + b"}"))
    with pytest.warns(RuntimeWarning, match="1 row was damaged"), Store(tmp_path, SETTINGS_OF) as store:
        assert store.rows == [row("a")]


WRITER = """
import sys
from pathlib import Path
from fusioncam.runtime.evaluation.store.store import Store
with Store(Path(sys.argv[1]), {"a": 1}) as store:
    for i in range(10**9):
        store.add({"image": f"{i:09}", "filling": "x" * 5000, "methods": {}})
        print(i, flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_killed_in_the_middle(tmp_path):
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as process:
        for _ in range(20):
            last = int(process.stdout.readline())
        with pytest.raises(UsageError, match="another process is writing to"):
            Store(tmp_path, {"a": 1})
        process.send_signal(signal.SIGKILL)
        last = max([last, *(int(line) for line in process.stdout.read().splitlines() if line)])
    with Store(tmp_path, {"a": 1}) as store:
        assert len(store.rows) in (last + 1, last + 2)  # what was said to be done is, and perhaps one more
        assert names_in(store) == [f"{i:09}" for i in range(len(store.rows))]


def test_other_settings_are_refused_by_name(tmp_path):
    with Store(tmp_path, SETTINGS_OF) as store:
        store.add(row("a"))
        store.save_picture("a", "grad_cam", np.zeros((9, 9, 3), np.uint8))
    ours = {**SETTINGS_OF, "methods": ["grad_cam"], "new": None, "budget": "auto"}
    with pytest.raises(UsageError) as caught:
        Store(tmp_path, ours)
    said = str(caught.value)
    assert "budget was exact, is now auto; methods was grad_cam, score_cam, is now grad_cam" in said
    assert "--restart" in said
    assert "model" not in said
    assert "\n" not in said
    with Store(tmp_path, SETTINGS_OF) as store:
        assert names_in(store) == ["a"]
    (tmp_path / "keep.txt").write_text("not ours")
    with Store(tmp_path, ours, restart=True) as store:
        assert store.rows == []
        assert [*(tmp_path / PICTURES).iterdir()] == []
        assert (tmp_path / "keep.txt").exists()
    with Store(tmp_path, ours) as store:
        assert store.rows == []


@pytest.mark.parametrize("name", [ROWS, *RESULTS])
@pytest.mark.parametrize("restart", [False, True])
def test_files_that_are_not_ours_are_left_alone(tmp_path, name, restart):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match="which no evaluation wrote"):
        Store(tmp_path, SETTINGS_OF, restart=restart)
    assert (tmp_path / name).read_text() == "mine"


def test_a_refused_folder_is_let_go(tmp_path):
    with Store(tmp_path, SETTINGS_OF) as store:
        store.add(row("a"))
        with pytest.raises(UsageError, match="another process"):
            Store(tmp_path, SETTINGS_OF)
    with pytest.raises(UsageError, match="other settings"):
        Store(tmp_path, {})
    with Store(tmp_path, SETTINGS_OF) as store:
        assert names_in(store) == ["a"]


def test_damaged_settings_a_bundle_and_a_file_in_the_way(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / SETTINGS).write_bytes(b'{"a": ')
    (tmp_path / "two.fcam").mkdir()
    (tmp_path / "two.fcam" / "manifest.json").write_text("{}")
    (tmp_path / "three").write_text("")
    refused = (
        ("one", UsageError, "damaged"),
        ("two.fcam", UsageError, "is a bundle"),
        ("three", OutputError, "in the way"),
    )
    for folder, error, words in refused:
        with pytest.raises(error, match=words) as caught:
            Store(tmp_path / folder, SETTINGS_OF)
        assert "\n" not in str(caught.value)


def test_a_full_disk_leaves_no_half_line(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with Store(tmp_path, SETTINGS_OF) as store:
        store.add(row("a"))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OutputError, match="No space left on device; free some space") as caught:
                store.add(row("b"))
        assert "\n" not in str(caught.value)
        assert not store.finished("b")
        store.add(row("c"))
    assert [json.loads(line)["image"] for line in (tmp_path / ROWS).read_bytes().splitlines()] == ["a", "c"]


def test_pictures_have_names_of_their_own(tmp_path):
    rgb = np.full((600, 300, 3), (200, 30, 90), np.uint8)
    methods = ["grad_cam", "fusion_cam:layer_cam+group_cam", "fusion_cam:layer_cam+group_cam:20", "a/b", "a:b"]
    with Store(tmp_path, SETTINGS_OF) as store:
        found = [store.save_picture(photo, method, rgb) for photo in [*NAMES, "deep/a.jpg"] for method in methods]
        assert len({name.lower() for name in found}) == len(found)
        assert all(name.isascii() and name.startswith("pictures/") and ":" not in name for name in found)
        shown = cv2.imdecode(np.frombuffer(store.picture(found[0]), np.uint8), cv2.IMREAD_COLOR_RGB)
        assert shown.shape == (256, 128, 3)
        np.testing.assert_allclose(shown.mean((0, 1)), (200, 30, 90), atol=4)
        assert store.picture("pictures/none.webp") is None
        assert store.picture("../../etc/passwd") is None
        assert store.picture("\0") is None


def test_small_and_thin_pictures():
    for shape in ((1, 1), (2000, 1), (5, 8)):
        data = thumbnail(np.zeros((*shape, 3), np.uint8))
        assert max(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[:2]) == min(256, max(shape))


def test_what_a_killed_write_left_goes(tmp_path):
    with Store(tmp_path, SETTINGS_OF):
        pass
    for folder in (tmp_path, tmp_path / PICTURES):
        (folder / ".fcam-0123456789abcdef.tmp").write_text("half")
    (tmp_path / LOCK).write_text("123")
    with Store(tmp_path, SETTINGS_OF):
        assert [*tmp_path.rglob("*.tmp")] == []
    assert not (tmp_path / LOCK).exists()


def test_values_json_does_not_have(tmp_path):
    assert plain({1: {2, 1}, "path": tmp_path, "x": (np.bool_(True), -np.inf)}) == {
        "1": [1, 2],
        "path": str(tmp_path),
        "x": [True, None],
    }
