"""Networks of torchvision, timm and transformers: the layer that is taken, held in a table.

`python benchmarks/zoo.py` holds many more.
"""

import importlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from fusioncam.export import check, export_torch

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"

# (K, h, w), and how many tokens come before the grid's.
TABLE = {
    "torchvision/vit_b_16": ((32, 4, 4), 1),
    "torchvision/maxvit": ((32, 8, 8), 0),
    "torchvision/mobilenet_v3_small": ((576, 2, 2), 0),
    "timm/xcit_nano_12_p16_224": ((128, 4, 4), 1),
    "timm/cait_xxs24_224": ((48, 4, 4), 0),
    "timm/tnt_s_patch16_224": ((48, 4, 4), 1),
    "timm/hiera_tiny_224": ((192, 2, 2), 0),
    "timm/levit_128s": ((256, 2, 2), 0),
    "timm/deit_tiny_distilled_patch16_224": ((192, 4, 4), 2),
    "timm/convit_tiny": ((192, 4, 4), 0),
    "transformers/Hiera": ((192, 2, 2), 0),
    "transformers/LevitModel": ((48, 2, 2), 0),
}


@pytest.fixture(scope="module")
def zoo():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        return importlib.import_module("zoo")


@pytest.mark.parametrize("name", list(TABLE))
def test_default_layer(name, zoo, tmp_path):
    library = name.partition("/")[0]
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    entry = zoo.ENTRIES[name]
    manifest = export_torch(zoo.build(entry), zoo.example(entry), tmp_path / "m.fcam")
    assert (manifest.layer.shape, manifest.layer.offset) == TABLE[name]
    assert manifest.layer.remarks == ()
    findings = check(tmp_path / "m.fcam")
    assert [f for f in findings if not f.ok] == []
    assert np.isfinite([f.error for f in findings]).all()
