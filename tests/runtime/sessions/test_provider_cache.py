"""Where TensorRT's engines are kept."""

import os

import onnxruntime
import pytest

from fusioncam import files
from fusioncam.errors import OutputError
from fusioncam.manifest import read_bundle
from fusioncam.runtime.sessions import engine_cache


def test_the_cache_lies_where_the_variable_says(monkeypatch, tmp_path):
    monkeypatch.setenv(engine_cache.CACHE, str(tmp_path / "elsewhere"))
    folder = engine_cache.cache_folder("0123456789abcdef" * 4)
    assert folder == tmp_path / "elsewhere" / "tensorrt" / onnxruntime.__version__ / "0123456789abcdef"
    assert [*folder.iterdir()] == []
    assert engine_cache.cache_folder("0123456789abcdef" * 4) == folder
    assert engine_cache.cache_folder("f" * 64) != folder
    assert engine_cache.cache_folder("0123456789abcdef" * 4, "64") == folder / "64"


def test_every_version_of_onnxruntime_has_a_cache_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv(engine_cache.CACHE, str(tmp_path))
    folder = engine_cache.cache_folder("a" * 64, "64")
    monkeypatch.setattr(onnxruntime, "__version__", "99.1")
    assert engine_cache.cache_folder("a" * 64, "64") != folder


def test_the_variable_may_name_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv(engine_cache.CACHE, "~/x")
    assert tmp_path / "x" / "tensorrt" in engine_cache.cache_folder("a" * 64).parents


@pytest.mark.skipif(os.name == "nt", reason="Windows makes a home up")
def test_the_variable_names_a_home_that_there_is_not(monkeypatch):
    monkeypatch.setenv(engine_cache.CACHE, "~nobody-of-that-name/x")
    with pytest.raises(OutputError, match=r"cannot keep .*: .+; set .* FUSIONCAM_CACHE"):
        engine_cache.cache_folder("a" * 64)


@pytest.mark.parametrize("value", [None, ""])
def test_else_the_cache_lies_in_the_users_own(monkeypatch, tmp_path, value):
    monkeypatch.delenv(engine_cache.CACHE, raising=False)
    if value is not None:
        monkeypatch.setenv(engine_cache.CACHE, value)
    monkeypatch.setattr(files, "user_cache_path", lambda name: tmp_path / name)
    folder = engine_cache.cache_folder("a" * 64)
    assert folder == tmp_path / "fusioncam" / "tensorrt" / onnxruntime.__version__ / "aaaaaaaaaaaaaaaa"


def test_a_cache_folder_that_cannot_be_made(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv(engine_cache.CACHE, str(tmp_path / "file"))
    with pytest.raises(OutputError, match=r"cannot keep .* engines in .*: .+; set .* FUSIONCAM_CACHE") as caught:
        engine_cache.cache_folder("a" * 64)
    assert "\n" not in str(caught.value)


def test_a_cache_folder_that_cannot_be_written(monkeypatch, tmp_path):
    def refuse(dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setenv(engine_cache.CACHE, str(tmp_path))
    monkeypatch.setattr(engine_cache, "TemporaryFile", refuse)
    with pytest.raises(OutputError, match="Permission denied; set the environment variable FUSIONCAM_CACHE"):
        engine_cache.cache_folder("a" * 64)


def test_the_digest_is_that_of_the_files(tiny):
    manifest = read_bundle(tiny.bundle)
    digest = engine_cache.bundle_digest(manifest)
    assert len(digest) == 64
    backwards = manifest.model_copy(update={"files": dict(reversed(manifest.files.items())), "labels": None})
    assert engine_cache.bundle_digest(backwards) == digest
    others = {**manifest.files, "weights.bin": "0" * 64}
    assert engine_cache.bundle_digest(manifest.model_copy(update={"files": others})) != digest
