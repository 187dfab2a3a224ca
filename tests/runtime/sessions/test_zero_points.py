import pytest

from fusioncam.errors import BundleError
from fusioncam.runtime.sessions.zero_points import is_symmetric


def test_zero_points_of_a_bundle(tiny_int8, symmetric_int8):
    assert not is_symmetric(tiny_int8 / "score.onnx")
    assert is_symmetric(symmetric_int8 / "score.onnx")


def test_no_graph_has_no_zero_points(tmp_path):
    (tmp_path / "score.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"cannot load .*score\.onnx: .*; export the model again"):
        is_symmetric(tmp_path / "score.onnx")
