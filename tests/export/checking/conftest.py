"""A bundle to check, and ways to change its files so that their digests still match."""

import hashlib
import json

import onnx
import pytest

from fusioncam.export import export_model
from fusioncam.manifest import MANIFEST, signed


@pytest.fixture
def bundle(tiny, tmp_path):
    export_model(tiny(), tmp_path / "t.fcam")
    return tmp_path / "t.fcam"


@pytest.fixture(scope="session")
def sign():
    """Enters the files of a bundle, as they are now, into its manifest."""

    def sign(bundle):
        content = json.loads((bundle / MANIFEST).read_text())
        content["files"] = {n: hashlib.sha256((bundle / n).read_bytes()).hexdigest() for n in content["files"]}
        (bundle / MANIFEST).write_bytes(signed(json.dumps(content).encode()))

    return sign


@pytest.fixture(scope="session")
def change(sign):
    """Edits a graph of a bundle in place, and signs the bundle."""

    def change(bundle, name, edit):
        model = onnx.load(bundle / name, load_external_data=False)
        edit(model.graph)
        onnx.save(model, bundle / name)
        sign(bundle)

    return change
