"""Derived bundles are kept, shared by processes, and few."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fusioncam import size_cache
from fusioncam.errors import OutputError, UsageError
from fusioncam.export import derivation, export_model
from fusioncam.manifest import MANIFEST, WEIGHTS, read_bundle

OWN, SIZES = (24, 32), [(28, 28), (32, 32), (36, 36), (40, 40)]


@pytest.fixture(scope="module")
def bundle(free_nets, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any")
    manifest = export_model(free_nets.write(folder / "net.onnx"), folder / "any.fcam", size=("any", *OWN))
    return folder / "any.fcam", manifest


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("FUSIONCAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sizes"


@pytest.fixture
def derived(monkeypatch):
    sizes, plain = [], derivation.derive_bundle
    monkeypatch.setattr(
        derivation, "derive_bundle", lambda b, m, size, *a: (sizes.append(size), plain(b, m, size, *a))[1]
    )
    return sizes


def test_a_size_is_derived_once(bundle, cache, derived):
    folder, manifest = size_cache.sized_bundle(*bundle, SIZES[0])
    assert folder.parents[1] == cache
    assert read_bundle(folder) == manifest
    assert size_cache.sized_bundle(*bundle, SIZES[0]) == (folder, manifest)
    with ThreadPoolExecutor(4) as pool:  # which stand for processes: each takes the lock of the folder
        found = list(pool.map(lambda _: size_cache.sized_bundle(*bundle, SIZES[1]), range(4)))
    assert len({str(place) for place, _ in found}) == 1
    assert derived == SIZES[:2]
    # All sizes have one copy of the weights, and the bundle keeps a file of its own, which onnx can read.
    kept = [place / WEIGHTS for place in (folder, found[0][0])]
    assert kept[0].samefile(kept[1])
    assert (bundle[0] / WEIGHTS).stat().st_nlink == 1


def test_a_damaged_folder_is_derived_anew(bundle, cache, derived):
    folder, manifest = size_cache.sized_bundle(*bundle, SIZES[0])
    (folder / MANIFEST).write_bytes(b"{}")
    assert size_cache.sized_bundle(*bundle, SIZES[0]) == (folder, manifest)
    (folder / "score.onnx").unlink()
    assert size_cache.sized_bundle(*bundle, SIZES[0])[1] == read_bundle(folder)
    shutil.rmtree(cache)
    assert size_cache.sized_bundle(*bundle, SIZES[0])[0].is_dir()
    assert derived == [SIZES[0]] * 4


def test_few_folders_are_kept(bundle, cache, monkeypatch):
    monkeypatch.setattr(size_cache, "MOST_FOLDERS", 3)
    for n, size in enumerate(SIZES[:3]):
        folder, _ = size_cache.sized_bundle(*bundle, size)
        os.utime(folder, (1000 + n, 1000 + n))
    size_cache.sized_bundle(*bundle, SIZES[0])  # which makes the second one the oldest
    folder, _ = size_cache.sized_bundle(*bundle, SIZES[3])
    assert {f"{h}x{w}" for h, w in (SIZES[0], *SIZES[2:])} == {place.name for place in folder.parent.glob("*x*")}


def test_another_bundle_has_a_folder_of_its_own(bundle, cache, free_nets, tmp_path):
    source = free_nets.write(tmp_path / "net.onnx", "pooled")
    other = export_model(source, tmp_path / "other.fcam", size=("any", *OWN))
    places = [size_cache.sized_bundle(*b, SIZES[0])[0] for b in (bundle, (tmp_path / "other.fcam", other))]
    assert places[0].parent != places[1].parent


def test_a_folder_that_cannot_be_written_is_named(bundle, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FUSIONCAM_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match=r"graphs of another size in .* \(.+\); set .* FUSIONCAM_CACHE"):
        size_cache.sized_bundle(*bundle, SIZES[0])


def test_what_cannot_be_derived_leaves_nothing_behind(bundle, cache):
    with pytest.raises(UsageError, match="at a size of 2 x 2"):
        size_cache.sized_bundle(*bundle, (2, 2))
    assert [Path(name).name for _, _, files in os.walk(cache) for name in files] == ["lock"]
