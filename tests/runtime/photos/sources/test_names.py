"""Names become files: folders, patterns, addresses in memory, in an archive and on the web, and lists."""

import http.server
import io
import os
import sys
import threading
import zipfile
from functools import partial

import pytest

from fusioncam.errors import ImageError, UsageError
from fusioncam.manifest import Preprocessing
from fusioncam.runtime.photos.sources.names import PhotoFiles, check_names, names_in
from fusioncam.runtime.photos.sources.photo_file import PhotoFile
from fusioncam.runtime.photos.sources.remote import is_address

PREPROCESSING = Preprocessing(size=(8, 8))
JPEG = b"\xff\xd8\xff\xe0 and so on"


@pytest.fixture
def tree(tmp_path):
    """Photos on three levels, one without a suffix, and files that are no photos."""
    for name in (
        "b.JPG",
        "a.png",
        "sub/c.jpg",
        "sub/deep/d.webp",
        "sub/bare",
        ".hidden.jpg",
        ".git/e.jpg",
        "notes.txt",
    ):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_bytes(JPEG)
    return tmp_path / "tree"


def places(*names, **options):
    return [file.place for file in PhotoFiles(map(str, names), **options)]


class TestHere:
    def test_a_folder_is_read_in_the_order_of_its_paths_and_the_rest_is_counted(self, tree):
        files = PhotoFiles([str(tree)], recursive=True)
        found = list(files)
        assert [file.place for file in found] == ["a.png", "b.JPG", "sub/bare", "sub/c.jpg", "sub/deep/d.webp"]
        assert [file.name for file in found] == [str(tree / file.place) for file in found]
        assert files.skipped == 2  # .hidden.jpg and notes.txt; nobody looks into .git
        assert places(tree) == ["a.png", "b.JPG"]
        assert places(tree.as_uri()) == ["a.png", "b.JPG"]

    def test_subfolders_are_read_when_their_turn_comes(self, tree):
        files = iter(PhotoFiles([str(tree)], recursive=True))
        assert next(files).place == "a.png"
        (tree / "sub" / "new.jpg").write_bytes(JPEG)
        assert "sub/new.jpg" in [file.place for file in files]

    def test_a_pattern_keeps_the_folders_below_its_fixed_part(self, tree):
        assert places(tree / "*.png") == ["a.png"]
        assert places(tree / "**" / "*.jpg") == ["sub/c.jpg"]
        assert places(tree / "su?" / "*") == ["sub/bare", "sub/c.jpg"]
        (tree / "[odd]*.jpg").write_bytes(JPEG)
        assert places(tree / "[odd]*.jpg") == ["[odd]*.jpg"]  # it exists as it stands

    def test_results_among_the_photos_are_left_out(self, tree):
        out = tree / "out"
        out.mkdir()
        (out / "a.png").write_bytes(JPEG)
        options = {"recursive": True, "results": out}
        assert "out/a.png" not in places(tree, tree / "**" / "*.png", **options)
        with pytest.raises(UsageError, match="is the folder of the photos; choose another"):
            check_names([str(tree)], tree)

    def test_what_leads_to_no_photo_says_so(self, tree):
        (tree / "empty").mkdir()
        for name, why in (
            (tree / "empty", "holds no photo (its subfolders were not searched; add -r); give a folder"),
            (tree / "*.tif", "no photo matches"),
            (tree / "gone.png", "there is no picture"),
            (tree, "is the folder of the photos"),
        ):
            *_, file = PhotoFiles([str(name)], results=tree)
            with pytest.raises(ImageError) as error:
                file.read(PREPROCESSING)
            assert why in str(error.value)
            assert file.fingerprint() is None

    @pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="everything can be read")
    def test_a_subfolder_that_cannot_be_read_is_told_and_the_rest_goes_on(self, tree):
        (tree / "sub").chmod(0)
        *others, failed = PhotoFiles([str(tree)], recursive=True)
        (tree / "sub").chmod(0o700)
        assert len(others) == 2
        assert "sub' cannot be read: Permission denied" in failed.problem

    def test_lists_come_by_lines_or_by_nul(self):
        def names(data, end):
            return list(names_in(io.BufferedReader(io.BytesIO(data)), end))

        assert names(b"a.jpg\r\n\nb c.jpg\ncaf\xe9.png", b"\n") == ["a.jpg", "b c.jpg", "caf\udce9.png"]
        assert names(b"a\nb.jpg\0c.jpg\0", b"\0") == ["a\nb.jpg", "c.jpg"]
        assert names(b"\n", b"\n") == []
        assert names(b"\xef\xbb\xbfa.jpg\r\n\xef\xbb\xbfb.jpg", b"\n") == ["a.jpg", "\ufeffb.jpg"]

    @pytest.mark.skipif(sys.platform == "win32", reason="needs links")
    def test_names_that_cannot_be_looked_up_are_failures_of_their_own(self, tree):
        (tree / "circle.jpg").symlink_to("circle.jpg")
        (tree / "gone.jpg").symlink_to("nowhere.jpg")
        long, *found = PhotoFiles(["x" * 5000, str(tree), str(tree / "circle.jpg")])
        check_names([long.name], tree)
        assert [file.place for file in found] == ["a.png", "b.JPG", "circle.jpg", "circle.jpg"]
        for file, why in ((long, "too long"), (found[-1], "symbolic links"), (found[-2], "symbolic links")):
            assert (file.is_remote, file.fingerprint()) == (False, None)
            with pytest.raises(ImageError, match=why):
                file.read(PREPROCESSING)


class TestElsewhere:
    @pytest.fixture(autouse=True)
    def _fsspec(self):
        pytest.importorskip("fsspec")

    @pytest.fixture
    def memory(self, tree):
        import fsspec

        files = fsspec.filesystem("memory")
        for path in tree.rglob("*"):
            if path.is_file():
                files.pipe_file(f"/photos/{path.relative_to(tree).as_posix()}", path.read_bytes())
        yield files
        files.rm("/photos", recursive=True)

    def test_a_bucket_is_read_as_a_folder_is(self, memory, tree):
        files = PhotoFiles(["memory://photos"], recursive=True)
        assert [file.place for file in files] == places(tree, recursive=True)
        assert files.skipped == 2
        assert places("memory://photos/*.png", "memory://photos/**/d.webp") == ["a.png", "sub/deep/d.webp"]
        (file,) = PhotoFiles(["memory://photos/sub/c.jpg"])
        assert file == PhotoFile("memory://photos/sub/c.jpg", "c.jpg")

    def test_a_photo_elsewhere_is_read_and_told_by_its_content(self, memory, tree):
        (file,) = PhotoFiles(["memory://photos/a.png"])
        with pytest.raises(ImageError, match=r"'memory://photos/a\.png' is not a picture"):
            file.read(PREPROCESSING)
        assert file.fingerprint() == PhotoFile(str(tree / "a.png"), "a.png").fingerprint()
        (gone,) = PhotoFiles(["memory://photos/gone.png"])
        with pytest.raises(ImageError, match=r"there is no picture 'memory://photos/gone\.png': check the address"):
            gone.read(PREPROCESSING)

    def test_names_in_an_archive_stay_in_their_folder(self, tree, tmp_path):
        with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
            for name in ("a.png", "in/../../b.png", "in/c.png"):
                archive.writestr(name, JPEG)
        address = f"zip://::{tmp_path / 'photos.zip'}"
        found = list(PhotoFiles([address], recursive=True))
        assert {file.place for file in found} >= {"a.png", "in/c.png"}
        assert not any(".." in file.place for file in found)
        assert found[0].fingerprint() == PhotoFile(str(tree / "a.png"), "").fingerprint()
        assert places(f"zip://in/*.png::{tmp_path / 'photos.zip'}") == ["c.png"]

    def test_web_addresses_are_photos_or_pages_of_links(self, tree):
        pytest.importorskip("aiohttp")
        pytest.importorskip("requests")
        handler = partial(_Silent, directory=str(tree))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            address = f"http://127.0.0.1:{server.server_port}"
            (photo,) = PhotoFiles([f"{address}/sub/c.jpg?signature=[x]*"])
            listed = places(f"{address}/", recursive=True)
            (gone,) = PhotoFiles([f"{address}/gone.jpg"])
            prints = photo.fingerprint()
            with pytest.raises(ImageError, match=r"c\.jpg' is not"):
                photo.read(PREPROCESSING)
            with pytest.raises(ImageError, match="status 404"):
                gone.read(PREPROCESSING)
            server.shutdown()
        assert (photo.place, photo.shown_name) == ("c.jpg", f"{address}/sub/c.jpg")  # a query may hold a signature
        assert listed == places(tree, recursive=True)
        assert prints == PhotoFile(str(tree / "sub" / "c.jpg"), "").fingerprint()

    @pytest.mark.parametrize(
        ("address", "words"),
        [
            ("s3://bucket/photos", "s3:// needs the package s3fs: pip install s3fs"),
            ("simplecache::gs://bucket/a.png", "gs:// needs the package gcsfs: pip install gcsfs"),
            ("nowhere://me:secret@x", "fsspec knows no addresses that begin with nowhere://"),
            ("sftp://me:secret@host/a.png", 'sftp:// needs a package more: SFTPFileSystem requires "paramiko"'),
        ],
    )
    def test_a_package_that_is_missing_is_named(self, monkeypatch, address, words, tmp_path):
        for package in ("s3fs", "gcsfs", "paramiko"):
            monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(UsageError) as error:
            check_names([address], tmp_path)
        assert words in str(error.value)
        (file,) = PhotoFiles([address])
        assert words in file.problem
        assert "secret" not in f"{error.value} {file.problem} {file.title}"

    @pytest.mark.parametrize(
        "address",
        [
            "memory://me:secret@none/*.jpg", "ftp://me:secret@127.0.0.1:1/",
            "zip://*::http://me:secret@127.0.0.1:1/a.zip", "HTTP://me:secret@127.0.0.1:1/a.jpg?key=secret",
            "http://me:secret@127.0.0.1:1/photos/",
        ],
    )  # fmt: skip
    def test_no_error_and_no_name_repeats_a_password(self, address):
        (file,) = PhotoFiles([address])
        with pytest.raises(ImageError) as error:
            file.read(PREPROCESSING)
        assert "secret" not in f"{error.value} {file.title} {file.shown_name}"

    def test_without_fsspec_the_extra_is_named(self, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, "fsspec", None)
        monkeypatch.setitem(sys.modules, "fsspec.registry", None)
        with pytest.raises(UsageError, match=r'pip install "fusioncam\[remote\]"'):
            check_names(["s3://bucket/photos"], tmp_path)


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.mark.parametrize("name", ["C:\\photos\\a.png", "c://a.png", "a.png", "photos/a:b.png"])
def test_paths_are_no_addresses(name):
    assert not is_address(name)
