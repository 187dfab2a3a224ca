"""Layout 1 of recurrent operators, which onnxruntime does not run, becomes layout 0."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fusioncam.export.reading.load import load_converted
from fusioncam.export.sessions import session

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def model(kind, first, shape, attributes=""):
    """Two directions of 4 units over an input x of a shape, with first states h and, of an LSTM, c."""
    cells = ", c" if kind == "LSTM" else ""
    states = f", float{first} c" if cells else ""
    last = ", float[A,B,C] k" if cells else ""
    text = (
        f"agraph (float{shape} x, float{first} h{states}) => (float[A,B,C,D] s, float[A,B,C] l{last})"
        f'{{s, l{", k" if cells else ""} = {kind}<hidden_size = 4, direction = "bidirectional"{attributes}>'
        f"(x, w, r, , , h{cells})}}"
    )
    made = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 18]> {text}')
    rng = np.random.default_rng(0)
    for name, size in (("w", 3), ("r", 4)):
        array = rng.normal(size=(2, 4 * GATES[kind], size)).astype(np.float32)
        made.graph.initializer.append(numpy_helper.from_array(array, name))
    return made


@pytest.mark.parametrize("kind", GATES)
def test_batch_first_becomes_time_first(kind, tmp_path):
    onnx.save(model(kind, "[N,2,4]", "[N,5,3]", ", layout = 1"), tmp_path / "batch.onnx")
    onnx.save(model(kind, "[2,N,4]", "[5,N,3]"), tmp_path / "time.onnx")
    rng = np.random.default_rng(1)
    feeds = {"x": rng.normal(size=(6, 5, 3)), "h": rng.normal(size=(6, 2, 4))}
    feeds |= {"c": rng.normal(size=(6, 2, 4))} if kind == "LSTM" else {}
    feeds = {k: v.astype(np.float32) for k, v in feeds.items()}
    got, expected = (
        session(load_converted(tmp_path / f"{name}.onnx")[0], False).run(None, given)
        for name, given in (("batch", feeds), ("time", {k: v.swapaxes(0, 1) for k, v in feeds.items()}))
    )
    np.testing.assert_array_equal(got[0], expected[0].transpose(2, 0, 1, 3))
    for ours, theirs in zip(got[1:], expected[1:], strict=True):
        np.testing.assert_array_equal(ours, theirs.swapaxes(0, 1))
