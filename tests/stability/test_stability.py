"""Names, options, fields, routes and bundles are still as a released version promised."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import fusioncam
from fusioncam import Explainer
from fusioncam.manifest import read_bundle

HERE = Path(__file__).parent
SPEC = importlib.util.spec_from_file_location("stability_record", HERE / "record.py")
record = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(record)

VERSIONS = sorted(path.parent for path in HERE.glob("*/interface.json"))
PROMISED = [
    pytest.param(kind, names, id=f"{version.name}: {kind}")
    for version in VERSIONS
    for kind, names in json.loads((version / "interface.json").read_text(encoding="utf-8")).items()
]


@pytest.fixture(scope="module")
def now():
    pytest.importorskip("fastapi")
    pytest.importorskip("prometheus_client")
    return record.interface()


@pytest.mark.parametrize(("kind", "names"), PROMISED)
def test_names_are_still_there(kind, names, now):
    if kind == "imports":
        gone = [name for name in names if not _can_be_imported(name)]
    else:
        gone = sorted(set(names) - set(now[kind]))
    assert gone == []


def _can_be_imported(name):
    module, _, attribute = name.rpartition(".")
    return hasattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)
def test_a_bundle_is_still_read_and_gives_its_maps(version, tmp_path):
    shutil.unpack_archive(version / "bundle.zip", tmp_path / "old.fcam")
    size = read_bundle(tmp_path / "old.fcam").preprocessing.size
    maps = Explainer(tmp_path / "old.fcam", methods=record.MAPS).explain(record.picture(size), 1).maps
    with np.load(version / "maps.npz") as recorded:
        assert {*recorded} == {*maps}
        for method, values in recorded.items():
            assert np.ptp(values) == 1
            np.testing.assert_allclose(maps[method], values, atol=1e-3, err_msg=method)


def test_the_last_released_version_was_recorded():
    assert fusioncam.__version__ in [path.name for path in VERSIONS]
