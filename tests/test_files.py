"""What is there for a while goes, however the process ends that made it; what others still use stays."""

import os
import signal
import subprocess
import sys

import pytest

from fusioncam import files
from fusioncam.files import KEPT, replace_file, replacing, sweep, temporary_file, temporary_folder

pytestmark = pytest.mark.skipif(os.name == "nt", reason="nothing is locked there, and so nothing removed")

HOLDER = """
import sys, time
from pathlib import Path
from fusioncam.files import KEPT, replacing, temporary_file, temporary_folder
parent = Path(sys.argv[1])
with temporary_folder(parent) as folder, temporary_file(parent, ".onnx"), replacing() as opened:
    (folder / "half").write_text("written")
    with opened(parent / "target") as file, temporary_folder(parent, KEPT) as aside:
        (parent / "bundle").rename(aside / "bundle")
        print("held", flush=True)
        time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process in the middle of its work."""
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "file").write_text("mine")
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_process_left_is_removed_and_what_it_had_put_aside_is_back(holder, tmp_path):
    before = names(tmp_path)
    assert len(before) == 4
    sweep(tmp_path)
    assert names(tmp_path) == before  # all of it is in use
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert names(tmp_path) == before
    sweep(tmp_path)
    assert names(tmp_path) == ["bundle"]
    assert (tmp_path / "bundle" / "file").read_text() == "mine"


def test_the_next_one_in_the_folder_does_so(holder, tmp_path):
    holder.kill()
    holder.wait()
    replace_file(tmp_path / "other", b"new")
    assert names(tmp_path) == ["bundle", "other"]


def test_what_is_not_ours_stays(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").touch()
    theirs = [".fcam-0123", ".fcam-0123456789abcdef.txt", ".0123456789abcdef.tmp", "fcam-0123456789abcdef", ".fcam-"]
    for name in theirs:
        (tmp_path / name).touch()
    (tmp_path / ".fcam-0123456789abcdef").symlink_to(tmp_path / "elsewhere")
    before = names(tmp_path)
    sweep(tmp_path)
    assert names(tmp_path) == before
    assert names(tmp_path / "elsewhere") == ["file"]
    sweep(tmp_path / "nowhere")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root can give files away")
def test_what_belongs_to_another_user_stays(tmp_path):
    path = tmp_path / ".fcam-0123456789abcdef"
    path.mkdir()
    os.chown(path, 65534, 65534)
    sweep(tmp_path)
    assert path.exists()


def test_temporary_things_go_unless_they_are_moved(tmp_path):
    with temporary_folder(tmp_path) as folder, temporary_file(tmp_path) as file:
        assert (folder.parent, file.parent) == (tmp_path, tmp_path)
        (folder / "deep").mkdir()
        sweep(tmp_path)
        assert folder.is_dir()
        assert file.is_file()
    with temporary_folder(tmp_path) as folder:
        folder.rename(tmp_path / "kept")
    assert names(tmp_path) == ["kept"]


def test_a_place_of_the_systems_is_for_its_owner_only(monkeypatch, tmp_path):
    monkeypatch.setattr(files.tempfile, "gettempdir", lambda: str(tmp_path))
    with temporary_folder() as folder:
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o77 == 0
    assert names(tmp_path) == []


def test_what_something_new_took_the_place_of_goes(tmp_path):
    (tmp_path / "old").write_text("old")
    with temporary_folder(tmp_path, KEPT) as aside:
        (tmp_path / "old").rename(aside / "old")
        (tmp_path / "old").write_text("new")
    assert (names(tmp_path), (tmp_path / "old").read_text()) == (["old"], "new")


def test_files_written_together_are_there_together_or_not_at_all(tmp_path):
    (tmp_path / "a").write_bytes(b"before")

    def fail():
        with replacing() as opened:
            with opened(tmp_path / "a") as file:
                file.write(b"after")
            with opened(tmp_path / "b"):
                raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert (names(tmp_path), (tmp_path / "a").read_bytes()) == (["a"], b"before")
    with replacing() as opened:
        for name in "ab":
            with opened(tmp_path / name) as file:
                file.write(name.encode())
    assert (names(tmp_path), (tmp_path / "b").read_bytes()) == (["a", "b"], b"b")
