"""Memory is bounded by the chunk, not by the number of channels."""

import sys

import pytest

from fusioncam.export import single_graph
from fusioncam.runtime.bench import memory

PROGRAM = """
import numpy as np, onnxruntime
from fusioncam.runtime.bench import memory

def load(asked):
    session = onnxruntime.InferenceSession(asked["path"], providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).random((1, 3, 24, 32), np.float32)
    return lambda: session.run(None, {"image": x, "class_index": np.array([-1])})

memory.answer(load)
"""
FEW, MANY = 200, 2000
PICTURE = 3 * 24 * 32 * 4  # bytes


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not tell the memory of a moment")
def test_ten_times_the_channels(make_tiny, tmp_path):
    added = []
    for channels in (FEW, MANY):
        path = tmp_path / f"{channels}.onnx"
        path.write_bytes(single_graph(make_tiny(channels=channels).bundle))
        added.append(memory.in_fresh_process(["-c", PROGRAM], {"path": str(path)}).added)
    assert None not in added
    assert (
        added[1] - added[0] < (MANY - FEW) * PICTURE
    )  # with their layers, all pictures at once take a hundred times that
