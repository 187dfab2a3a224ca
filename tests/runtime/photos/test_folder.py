"""The photos of a folder."""

import os

import pytest

from fusioncam.errors import UsageError
from fusioncam.runtime.photos.folder import photos_of


def fill(folder, *names, data=b"x"):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def test_photos_are_sorted_by_their_path_and_other_files_left_out(tmp_path):
    fill(tmp_path, "b.JPG", "a.png", "notes.txt", "annotations.json", ".hidden.jpg", "deep/c.jpg", ".git/d.jpg")
    assert [*photos_of(tmp_path)] == ["a.png", "b.JPG"]
    assert [*photos_of(tmp_path, recursive=True)] == ["a.png", "b.JPG", "deep/c.jpg"]
    assert photos_of(tmp_path, recursive=True)["deep/c.jpg"] == tmp_path / "deep" / "c.jpg"


def test_a_photo_without_a_suffix_is_known_by_how_it_begins(tmp_path):
    fill(tmp_path, "camera", data=b"\xff\xd8\xff\xe0")
    fill(tmp_path, "README", data=b"read me")
    assert [*photos_of(tmp_path)] == ["camera"]


def test_masks_and_results_are_left_out(tmp_path):
    fill(tmp_path, "a.png", "a_mask.png", "out/pictures/a.webp", "deep/b.png")
    left = photos_of(tmp_path, recursive=True, leave_out=[tmp_path / "a_mask.png", tmp_path / "out"])
    assert [*left] == ["a.png", "deep/b.png"]


def test_a_link_in_a_circle_is_not_followed(tmp_path):
    fill(tmp_path, "a.png")
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "dead.png").symlink_to(tmp_path / "nowhere")
    assert [*photos_of(tmp_path, recursive=True)] == ["a.png"]


@pytest.mark.skipif(os.name == "nt", reason="names are bytes on POSIX only")
def test_names_that_are_no_utf8(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    assert [*photos_of(tmp_path)] == ["caf\udce9.png"]


def test_folders_without_photos(tmp_path):
    fill(tmp_path, "notes.txt", "deep/a.png")
    with pytest.raises(UsageError, match=r"holds no photo \(its subfolders were not searched\); give"):
        photos_of(tmp_path)
    for folder in (tmp_path / "missing", tmp_path / "notes.txt"):
        with pytest.raises(UsageError, match="cannot be read") as caught:
            photos_of(folder)
        assert "\n" not in str(caught.value)
