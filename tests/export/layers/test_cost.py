import pytest

from fusioncam.export import inspect_model
from fusioncam.export.canonical import canonicalize
from fusioncam.export.layers.choice import survey
from fusioncam.export.layers.cost import chunk_bytes, cost, seconds_per_pass
from fusioncam.manifest import CHUNK


def test_passes_and_bytes(tiny):
    classifier = canonicalize(tiny())
    by = {c.name: cost(c, 0.5, 1000) for c in survey(classifier).candidates}
    assert by["relu"].passes == 6 + 4
    assert by["relu"].seconds == 5.0
    assert by["relu"].bytes == 1000 + 8 * 6 * 4 * 6
    assert by["r1"].passes < by["relu"].passes


def test_chunk_bytes_counts_what_is_alive_together(tiny):
    image, wide = 4 * 3 * 48, 4 * 4 * 48
    weights = 4 * (4 * 3 * 9 + 6 * 4 * 9 + 6 * 5 + 5)
    most = chunk_bytes(canonicalize(tiny()))
    # Two maps of four channels are alive while the first activation is computed.
    assert weights + CHUNK * (2 * wide + 2 * image) <= most <= weights + CHUNK * (2 * wide + 2 * image) + 64


def test_larger_pictures_cost_more(tiny):
    small, large = (canonicalize(tiny(f"{n}.onnx", size=(n, n))) for n in (8, 96))
    assert chunk_bytes(large) > 50 * chunk_bytes(small) / 2
    assert min(seconds_per_pass(small), seconds_per_pass(large)) > 0


def test_inspection(tiny):
    report = inspect_model(tiny(ending=["Softmax"]))
    assert report.default.name == "relu"
    assert report.reason is None
    assert not report.missing
    assert [c.name for c, _ in report.layers] == ["r1", "relu"]
    per_pass = {price.seconds / price.passes for _, price in report.layers}
    assert max(per_pass) == pytest.approx(min(per_pass))
