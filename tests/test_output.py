"""Files are written whole or not at all, and their bytes say what they should."""

import errno
import io
import json
import os
import stat
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusioncam.errors import OutputError
from fusioncam.output import (
    encode_png,
    json_bytes,
    prepare_folder,
    write_atomically,
    write_npz,
    write_together,
)


def assert_refused(call, *words: str) -> None:
    with pytest.raises(OutputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def npz_bytes(arrays):
    buffer = io.BytesIO()
    write_npz(buffer, arrays)
    return buffer.getvalue()


@pytest.fixture
def small_files():
    """No file may grow larger than 100 kB, as on a disk that is all but full."""
    resource = pytest.importorskip("resource", reason="limits are POSIX's own")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


class TestWriteAtomically:
    def test_writes_and_replaces(self, tmp_path):
        path = tmp_path / "größe.bin"
        for data in (b"one", b"", b"three" * 1000):
            write_atomically(path, data)
            assert path.read_bytes() == data
        write_atomically(str(path), b"str")
        assert [entry.name for entry in tmp_path.iterdir()] == ["größe.bin"]

    @pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError(28, "No space left on device")])
    @pytest.mark.parametrize("step", ["open", "replace"])
    def test_an_interruption_leaves_the_old_content_and_nothing_else(self, tmp_path, monkeypatch, error, step):
        path = tmp_path / "kept.txt"
        path.write_bytes(b"old")
        original = getattr(Path, step)

        def interrupted(self, *arguments):
            if step == "open":
                original(self, *arguments).close()
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(Path, step, interrupted)
            with pytest.raises(OutputError if isinstance(error, OSError) else error) as caught:
                write_atomically(path, b"new")
        if isinstance(error, OSError):
            assert "No space left on device" in str(caught.value)
        assert path.read_bytes() == b"old"
        assert [entry.name for entry in tmp_path.iterdir()] == ["kept.txt"]

    @pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
    def test_permissions_follow_the_umask(self, tmp_path, umask, mode):
        before = os.umask(umask)
        try:
            write_atomically(tmp_path / "file", b"data")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode

    def test_a_link_is_followed(self, tmp_path):
        (tmp_path / "real").write_bytes(b"old")
        (tmp_path / "link").symlink_to(tmp_path / "real")
        write_atomically(tmp_path / "link", b"new")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "real").read_bytes() == b"new"

    def test_places_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").touch()
        (tmp_path / "folder").mkdir()
        os.mkfifo(tmp_path / "pipe")
        for name, word in [
            ("missing/file", "No such file"),
            ("file/inside", "Not a directory"),
            ("folder", "not an ordinary file"),
            ("pipe", "not an ordinary file"),
            ("nul\0", "null"),
            ("x" * 300, "too long"),
        ]:
            assert_refused(lambda name=name: write_atomically(tmp_path / name, b""), "cannot write", word)
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder", "pipe"]

    @pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs procfs, which not even root can write to")
    def test_a_read_only_place(self):
        assert_refused(lambda: write_atomically("/proc/fusioncam.txt", b""), "cannot write '/proc/fusioncam.txt'")


class TestWriteTogether:
    def test_in_order_by_bytes_or_piece_by_piece(self, tmp_path):
        def pieces(file):
            assert [*tmp_path.glob("[!.]*")] == []  # none is there before all are
            file.write(b"b")
            file.write(b"c")

        write_together([(tmp_path / "one", b"a"), (tmp_path / "two", pieces)])
        assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"one": b"a", "two": b"bc"}

    def test_a_disk_that_is_full_at_the_last_of_them_leaves_none(self, tmp_path, small_files):
        (tmp_path / "one").write_bytes(b"old")
        files = [("one", b"new"), ("two", b"new"), ("three", bytes(200_000))]
        assert_refused(lambda: write_together((tmp_path / n, data) for n, data in files), "three", "too large")
        assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"one": b"old"}

    def test_an_archive_that_does_not_fit(self, tmp_path, small_files):
        maps = {"a": np.zeros(10), "b": np.zeros(50_000)}
        assert_refused(lambda: write_together([(tmp_path / "m.npz", lambda f: write_npz(f, maps))]), "too large")
        assert [*tmp_path.iterdir()] == []

    @pytest.mark.parametrize(
        ("number", "advice"),
        [(errno.ENOSPC, "free some space"), (errno.EDQUOT, "free some space"), (errno.EACCES, "folder writable")],
    )
    def test_the_advice_goes_with_the_error(self, tmp_path, number, advice):
        def fail(_):
            raise OSError(number, os.strerror(number))

        assert_refused(lambda: write_together([(tmp_path / "one", fail)]), os.strerror(number), advice)
        assert [*tmp_path.iterdir()] == []


class TestPrepareFolder:
    def test_makes_parents_and_accepts_what_is_there(self, tmp_path):
        for path in (tmp_path / "a" / "b", tmp_path / "a", str(tmp_path / "a")):
            assert prepare_folder(path).is_dir()
        assert list((tmp_path / "a" / "b").iterdir()) == []

    def test_a_file_in_the_way(self, tmp_path):
        (tmp_path / "file").touch()
        for name in ("file", "file/inside", "file/inside/deeper"):
            assert_refused(lambda name=name: prepare_folder(tmp_path / name), "a file is in the way")

    @pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs procfs, which not even root can write to")
    @pytest.mark.parametrize("path", ["/proc/fusioncam", "/proc/self"])
    def test_a_read_only_place(self, path):
        assert_refused(lambda: prepare_folder(path), "cannot write")


class TestBytes:
    def test_png(self):
        rgb = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        data = encode_png(rgb[:, ::-1])
        assert data == encode_png(np.ascontiguousarray(rgb[:, ::-1]))
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(decoded[..., ::-1], rgb[:, ::-1])

    def test_npz(self):
        maps = {"fusion_cam": np.eye(3, 4, dtype=np.float32), "grad_cam": np.arange(3)}
        data = npz_bytes(maps)
        assert data == npz_bytes(maps)
        with np.load(io.BytesIO(data), allow_pickle=False) as loaded:
            assert list(loaded) == list(maps)
            for name, array in maps.items():
                np.testing.assert_array_equal(loaded[name], array)
                assert loaded[name].dtype == array.dtype

    def test_npz_of_arrays_that_are_made_one_after_the_other(self):
        maps = {"fusion_cam:a+b": np.eye(3, 4, dtype=np.float32), "grad_cam": np.arange(3)}
        data = npz_bytes((name, array.copy()) for name, array in maps.items())
        assert data == npz_bytes(maps)
        buffer = io.BytesIO()
        np.savez(buffer, **maps)
        with np.load(io.BytesIO(data)) as ours, np.load(io.BytesIO(buffer.getvalue())) as theirs:
            assert list(ours) == list(theirs)

    def test_an_archive_takes_the_memory_of_one_array(self, tmp_path):
        count, size = 6, 4 << 20

        def arrays():
            for i in range(count):
                yield f"m{i}", np.full(size, i, np.uint8)

        tracemalloc.start()
        try:
            with (tmp_path / "m.npz").open("xb") as file:
                write_npz(file, arrays())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 2.5 * size  # the array, and its bytes on the way to the file
        with np.load(tmp_path / "m.npz") as loaded:
            assert [int(loaded[name].max()) for name in loaded] == [*range(count)]
        assert (tmp_path / "m.npz").read_bytes() == npz_bytes(arrays())

    def test_json(self):
        value = {"label": "斑马", "p": np.float32(0.5), "k": np.int64(3), "shape": np.arange(2), "path": Path("a/b")}
        data = json_bytes(value)
        assert data.endswith(b"}\n")
        assert "斑马".encode() in data
        assert json.loads(data) == {"label": "斑马", "p": 0.5, "k": 3, "shape": [0, 1], "path": "a/b"}

    def test_json_of_a_file_name_that_is_not_utf8(self):
        name = os.fsdecode(b"caf\xe9.png")
        assert json.loads(json_bytes({"path": name}).decode("utf-8")) == {"path": name}

    @pytest.mark.parametrize("value", [float("nan"), np.float64("inf"), np.array([np.nan], np.float32)])
    def test_json_has_no_nan(self, value):
        with pytest.raises(ValueError, match="not JSON compliant"):
            json_bytes([value])

    def test_json_of_something_else(self):
        with pytest.raises(TypeError, match="set cannot be written"):
            json_bytes({1, 2})
