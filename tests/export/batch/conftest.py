"""Small models of one fixed batch, written as rows: an operator, its inputs, its outputs and attributes."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


def names(text):
    return ["" if name == "_" else name for name in text.split()]


@pytest.fixture(scope="session")
def save_rows():
    """Saves a model from `image` (batch, 3, *size) to `scores`."""

    def save(path, rows, constants, batch, size, opset=18):
        nodes = [
            helper.make_node(
                kind.rpartition(".")[2],
                names(inputs),
                names(outputs),
                f"node{i}",
                domain=kind.rpartition(".")[0],
                **(rest[0] if rest else {}),
            )
            for i, (kind, inputs, outputs, *rest) in enumerate(rows)
        ]
        graph = helper.make_graph(
            nodes,
            "fixed",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, *size])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
        )
        domains = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=10), path)
        return path

    return save
