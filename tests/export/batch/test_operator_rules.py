"""Operators on the way of a fixed batch: freed, each image gets what it gets alone, or the remedy is named."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fusioncam.errors import ModelError
from fusioncam.export import inspect_model
from fusioncam.export.batch.dynamic import quantise_by_image
from fusioncam.export.canonical import canonicalize
from fusioncam.export.sessions import run

rng = np.random.default_rng(0)
SIZE, CHANNELS = (4, 6), 4


def normal(*shape):
    return rng.normal(0, 0.5, shape).astype(np.float32)


def numbers(*values):
    return np.array(values, np.int64)


@pytest.fixture(scope="module")
def saved(save_rows):
    """Saves a model of rows between a convolution, which makes `c`, and a head, which reads `x`."""

    def save(path, rows, constants, batch, opset=18, declared=None):
        constants = {"conv": normal(CHANNELS, 3, 3, 3), **constants}
        rows = [
            ("Conv", "image conv", "c", {"pads": [1, 1, 1, 1]}),
            *rows,
            ("ReduceMean", "x axes", "pooled", {"keepdims": 0}),
            ("Gemm", "pooled last", "scores"),
        ]
        constants |= {"axes": constants.get("axes", numbers(2, 3)), "last": normal(constants.pop("width", CHANNELS), 5)}
        return save_rows(path, rows, constants, declared or batch, SIZE, opset)

    return save


def reshaped(before, name, after):
    return ("Reshape", f"{before} {name}", after)


def grid(batch):
    ends = [np.linspace(-0.9, 0.8, n, dtype=np.float32) for n in SIZE[::-1]]
    return np.repeat(np.stack(np.meshgrid(*ends), -1)[None], batch, axis=0)


TOKENS = [reshaped("c", "flat", "f"), ("Transpose", "f", "t", {"perm": [0, 2, 1]})]
SEQUENCE = [reshaped("c", "flat", "f"), ("Transpose", "f", "t", {"perm": [2, 0, 1]})]


def tokens(batch):
    return {"flat": numbers(batch, CHANNELS, -1)}


def recurrent(kind, gates, states):
    return lambda b: (
        [*SEQUENCE, (kind, f"t w r _ _ {states}", "y last_state", {"hidden_size": 3}),
         ("Squeeze", "last_state one", "s"), reshaped("s", "wide", "x")],
        {**tokens(b), "w": normal(1, gates * 3, CHANNELS), "r": normal(1, gates * 3, 3), "one": numbers(0),
         "wide": numbers(b, 3, 1, 1), "h": np.ones((1, b, 3), np.float32), "width": 3},
    )  # fmt: skip


# Of a batch b: the nodes from `c` (b, 4, 4, 6) to `x`, and their constants.
CASES = {
    "grid_sample": lambda b: ([("GridSample", "c grid", "x")], {"grid": grid(b)}),
    "top_k": lambda b: (
        [("TopK", "c two", "x rest", {"axis": 1})], {"two": numbers(2), "width": 2}),
    "gather_elements": lambda b: (
        [("GatherElements", "c which", "x", {"axis": 2})],
        {"which": np.repeat(rng.integers(0, 4, (1, CHANNELS, 2, 6)), b, axis=0)}),
    "gather_elements_of_a_constant": lambda b: (
        [("ArgMax", "c", "best", {"axis": 1}), ("GatherElements", "table best", "p", {"axis": 1}),
         ("Mul", "c p", "x")],
        {"table": np.repeat(normal(1, CHANNELS, *SIZE), b, axis=0)}),
    "gather_nd": lambda b: (
        [("Transpose", "c", "t", {"perm": [2, 3, 0, 1]}), ("GatherND", "t which", "x")],
        {"which": numbers([0, 1], [3, 5], [2, 2]), "axes": numbers(0)}),
    "scatter_nd": lambda b: (
        [("Transpose", "c", "t", {"perm": [1, 0, 2, 3]}), ("ScatterND", "t which new", "s"),
         ("Transpose", "s", "x", {"perm": [1, 0, 2, 3]})],
        {"which": numbers([1], [3]), "new": np.repeat(normal(2, 1, *SIZE), b, axis=1)}),
    "scatter_nd_into_zeros": lambda b: (
        [("Transpose", "c", "t", {"perm": [1, 0, 2, 3]}), ("ScatterND", "zeros which t", "s"),
         ("Transpose", "s", "x", {"perm": [1, 0, 2, 3]})],
        {"which": numbers([1], [3], [5], [0]), "zeros": np.zeros((6, b, *SIZE), np.float32), "width": 6}),
    "scatter_elements": lambda b: (
        [("ScatterElements", "c which new", "x", {"axis": 1})],
        {"which": np.repeat(rng.integers(0, 4, (1, 1, *SIZE)), b, axis=0),
         "new": np.repeat(normal(1, 1, *SIZE), b, axis=0)}),
    "lstm": recurrent("LSTM", 4, "h h"),
    "gru": recurrent("GRU", 3, "h"),
    "gru_without_state": recurrent("GRU", 3, "_"),
    "rnn": recurrent("RNN", 1, "h"),
    "probe_in_heads": lambda b: (  # torch's attention of one learnt query: heads lie behind the batch in one axis
        [*SEQUENCE, reshaped("t", "split", "u"), ("Transpose", "u", "k", {"perm": [1, 2, 0]}),
         ("MatMul", "probe k", "m"), ("Softmax", "m", "p"), ("Transpose", "k", "v", {"perm": [0, 2, 1]}),
         ("MatMul", "p v", "o"), reshaped("o", "joined", "x")],
        {**tokens(b), "split": numbers(24, b * 2, 2), "probe": np.tile(normal(2, 1, 2), (b, 1, 1)),
         "joined": numbers(b, CHANNELS, 1, 1)}),
    "probe": lambda b: (
        [*TOKENS, ("Transpose", "t", "k", {"perm": [0, 2, 1]}), ("MatMul", "probe k", "m"), ("Softmax", "m", "p"),
         ("MatMul", "p t", "o"), reshaped("o", "joined", "x")],
        {**tokens(b), "probe": np.tile(normal(1, 1, CHANNELS), (b, 1, 1)), "joined": numbers(b, CHANNELS, 1, 1)}),
    "heads_masked": lambda b: (
        [reshaped("c", "heads", "h"), ("Add", "h mask", "m"), ("Sigmoid", "m", "s"), reshaped("s", "back", "x")],
        {"heads": numbers(b * CHANNELS, *SIZE), "mask": np.tile(normal(CHANNELS, 1, 6), (b, 1, 1)),
         "back": numbers(b, CHANNELS, *SIZE)}),
    "heads_multiplied": lambda b: (
        [reshaped("c", "heads", "h"), ("MatMul", "h w", "m"), reshaped("m", "back", "x")],
        {"heads": numbers(b * CHANNELS, *SIZE), "w": np.tile(normal(CHANNELS, 6, 3), (b, 1, 1)),
         "back": numbers(b, CHANNELS, 4, 3)}),
    "bias_of_the_batch": lambda b: (
        [("GlobalAveragePool", "c", "p"), ("Flatten", "p", "f"), ("Gemm", "f w bias", "g"), reshaped("g", "wide", "x")],
        {"w": normal(CHANNELS, 3), "bias": np.tile(normal(1, 3), (b, 1)), "wide": numbers(b, 3, 1, 1), "width": 3}),
    "einsum_of_a_constant": lambda b: (
        [("Einsum", "c w", "x", {"equation": "nchw,nc->nchw"})], {"w": np.tile(normal(1, CHANNELS), (b, 1))}),
    "einsum_with_an_ellipsis": lambda b: (
        [("Einsum", "c w", "x", {"equation": "...chw,dhw"})], {"w": normal(3, *SIZE), "axes": numbers(2)}),
    "reversed_from_lengths": lambda b: (
        [("ReverseSequence", "c lengths", "x", {"batch_axis": 0, "time_axis": 1})], {"lengths": numbers(*[3] * b)}),
    "one_hot": lambda b: (
        [("ArgMax", "c", "best", {"axis": 1, "keepdims": 0}), ("OneHot", "best depth ends", "p", {"axis": 1}),
         ("Mul", "c p", "x")],
        {"depth": np.array(CHANNELS), "ends": np.float32([0.1, 1])}),
    "determinants": lambda b: (
        [("Einsum", "c c", "m", {"equation": "bchw,bdhw->bhcd"}), ("Det", "m", "d"), ("Unsqueeze", "d one", "x")],
        {"one": numbers(2, 3), "width": SIZE[0]}),
    "spectrum": lambda b: (
        [("Unsqueeze", "c one", "u"), ("DFT", "u", "f", {"axis": 2}), ("ReduceL2", "f one", "x", {"keepdims": 0})],
        {"one": numbers(4)}),
    "spectra_of_a_signal": lambda b: (
        [reshaped("c", "signal", "s"), ("STFT", "s step window", "f"),
         ("ReduceL2", "f last_axis", "t", {"keepdims": 0}), reshaped("t", "maps", "x")],
        {"signal": numbers(b, 96, 1), "step": np.array(16), "window": np.ones(32, np.float32),
         "last_axis": numbers(3), "maps": numbers(b, 5, 17, 1), "width": 5}),
    "cumulated": lambda b: ([("CumSum", "c two", "x")], {"two": np.array(2)}),
    "padded": lambda b: ([("Pad", "c pads", "x")], {"pads": numbers(0, 0, 1, 2, 0, 0, 0, 1)}),
    "tiled": lambda b: ([("Tile", "c times", "x")], {"times": numbers(1, 2, 1, 3), "width": 2 * CHANNELS}),
    "sliced_to_the_batch": lambda b: (
        [("Slice", "c from to", "x")], {"from": numbers(0, 1), "to": numbers(b, 3), "width": 2}),
    "trilu": lambda b: ([("Trilu", "c", "x")], {}),
    "lp_norm": lambda b: ([("LpNormalization", "c", "x", {"axis": 1})], {}),
    "split": lambda b: (
        [("Split", "c", "p q", {"axis": 1, "num_outputs": 2}), ("Mul", "p q", "x")], {"width": CHANNELS // 2}),
    "where": lambda b: (
        [("Greater", "c limit", "g"), ("Where", "g c low", "x")],
        {"limit": np.zeros((b, 1, 1, 1), np.float32), "low": np.full((b, CHANNELS, 1, 1), -0.1, np.float32)}),
    "layer_norm": lambda b: (
        [*TOKENS, ("LayerNormalization", "t s", "n"), ("Relu", "n", "r"), ("Unsqueeze", "r one", "x")],
        {**tokens(b), "s": normal(CHANNELS), "one": numbers(3), "axes": numbers(1, 3)},
    ),
    "dynamically_quantised": lambda b: (
        [*TOKENS, ("DynamicQuantizeLinear", "t", "q s z"), ("MatMulInteger", "q w z", "m"),
         ("Cast", "m", "f2", {"to": 1}), ("Mul", "f2 s", "n"), ("Unsqueeze", "n one", "x")],
        {**tokens(b), "w": rng.integers(-9, 9, (CHANNELS, CHANNELS)).astype(np.int8), "one": numbers(3),
         "axes": numbers(1, 3)}),
    "contrib_gelu": lambda b: ([("com.microsoft.Gelu", "c", "x")], {}),
}  # fmt: skip
LATE = {  # at opset 23
    "attention": lambda b: (
        [*TOKENS, ("Attention", "t t t", "o", {"q_num_heads": 2, "kv_num_heads": 2}), ("Unsqueeze", "o one", "x")],
        {**tokens(b), "one": numbers(3), "axes": numbers(1, 3)}),
    "attention_of_a_probe": lambda b: (
        [*TOKENS, ("Attention", "probe t t", "o", {"q_num_heads": 2, "kv_num_heads": 2}), ("Unsqueeze", "o one", "x")],
        {**tokens(b), "probe": np.tile(normal(1, 2, CHANNELS), (b, 1, 1)), "one": numbers(3), "axes": numbers(1, 3)}),
    "attention_masked": lambda b: (
        [*TOKENS, ("Attention", "t t t mask", "o", {"q_num_heads": 2, "kv_num_heads": 2}), ("Unsqueeze", "o one", "x")],
        {**tokens(b), "mask": np.tile(normal(1, 2, 24, 24), (b, 1, 1, 1)), "one": numbers(3), "axes": numbers(1, 3)}),
    "attention_in_windows": lambda b: (  # one mask serves all of them
        [*TOKENS, reshaped("t", "windows", "w"),
         ("Attention", "w w w mask", "a", {"q_num_heads": 2, "kv_num_heads": 2}), reshaped("a", "whole", "o"),
         ("Unsqueeze", "o one", "x")],
        {**tokens(b), "windows": numbers(b * 2, 12, CHANNELS), "whole": numbers(b, 24, CHANNELS),
         "mask": normal(1, 2, 12, 12), "one": numbers(3), "axes": numbers(1, 3)}),
    "rounded_in_blocks": lambda b: (
        [("QuantizeLinear", "c scale", "q", {"axis": 1, "block_size": 2, "output_dtype": TensorProto.INT8}),
         ("DequantizeLinear", "q scale", "x", {"axis": 1, "block_size": 2})],
        {"scale": np.tile(np.float32([[[[0.01]], [[0.02]]]]), (b, 1, *SIZE))}),
}  # fmt: skip
ALL = {**{k: (v, 18) for k, v in CASES.items()}, **{k: (v, 23) for k, v in LATE.items()}}


def images(count):
    return (rng.random((count, 3, *SIZE)) / np.arange(1, count + 1).reshape(-1, 1, 1, 1)).astype(np.float32)


@pytest.mark.parametrize(("batch", "declared"), [(1, None), (2, None), (1, "N")], ids=["one", "two", "one_said_free"])
@pytest.mark.parametrize("name", ALL)
def test_batch_gives_what_each_image_gives(name, batch, declared, saved, tmp_path):
    make, opset = ALL[name]
    nodes, constants = make(batch)
    if name == "dynamically_quantised" and batch > 1:
        pytest.skip("two images share a scale in the source")
    source = saved(tmp_path / "fixed.onnx", nodes, constants, batch, opset, declared)
    pictures = images(4)
    session = onnxruntime.InferenceSession(source)
    alone = np.concatenate([session.run(None, {"image": pictures[i : i + batch]})[0] for i in range(0, 4, batch)])
    assert np.ptp(alone, axis=0).max() > 1e-3, "the images differ"
    free = canonicalize(source).model
    quantise_by_image(free)
    assert np.allclose(run(free, {"image": pictures})[0], alone, atol=1e-5)
    assert np.allclose(run(free, {"image": pictures[:1]})[0], alone[:1], atol=1e-5)


LOST = {
    "scatter_by_image": lambda: (
        [("ScatterND", "c which new", "x")], {"which": numbers([0, 1], [0, 3]), "new": normal(2, *SIZE)}),
    "unknown_operator": lambda: ([("Unique", "c", "u"), ("Squeeze", "u", "v"), ("ReduceMax", "v", "m"),
                                  ("Add", "c m", "x")], {}),
    "top_k_of_the_batch": lambda: ([("TopK", "c one", "x rest", {"axis": 0})], {"one": numbers(1)}),
    "reversed_batch": lambda: (
        [("ReverseSequence", "c lengths", "x", {"batch_axis": 1, "time_axis": 0})],
        {"lengths": numbers(*[1] * CHANNELS)}),
    "spectrum_over_the_batch": lambda: (
        [("Unsqueeze", "c one", "u"), ("DFT", "u", "f", {"axis": 0}), ("ReduceL2", "f one", "x", {"keepdims": 0})],
        {"one": numbers(4)}),
    "determinant_over_the_batch": lambda: (
        [("Transpose", "c", "t", {"perm": [1, 2, 0, 3]}), ("Slice", "t zero one three", "u"), ("Det", "u", "d"),
         ("Unsqueeze", "d ends", "x")],
        {"zero": numbers(0), "one": numbers(1), "three": numbers(3), "ends": numbers(0, 3)}),
    "cumulated_over_the_batch": lambda: ([("CumSum", "c zero", "x")], {"zero": np.array(0)}),
    "loop": lambda: (
        [("Loop", "times _ c", "x", {"body": body()})], {"times": np.array(99)}),
    "lstm_over_the_batch": lambda: (
        [*TOKENS, ("LSTM", "t w r", "_ s", {"hidden_size": 3}), ("Slice", "s zero one one", "y"),
         reshaped("y", "wide", "x")],
        {**tokens(1), "w": normal(1, 12, CHANNELS), "r": normal(1, 12, 3), "zero": numbers(0), "one": numbers(1),
         "wide": numbers(1, 3, 1, 1), "width": 3}),
    "batch_dropped": lambda: (
        [("Squeeze", "c zero", "s"), ("CumSum", "s axis", "t"), ("Unsqueeze", "t zero", "x")],
        {"zero": numbers(0), "axis": np.array(1)}),
    "training": lambda: (
        [("BatchNormalization", "c s s z s", "x m v", {"training_mode": 1})],
        {"s": np.ones(CHANNELS, np.float32), "z": np.zeros(CHANNELS, np.float32)}),
}  # fmt: skip


def body():
    """A loop's body that adds one."""
    return helper.make_graph(
        [helper.make_node("Add", ["v", "unit"], ["w"]), helper.make_node("Identity", ["on"], ["still"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, None),
        ],
        [numpy_helper.from_array(np.float32(1), "unit")],
    )


@pytest.mark.parametrize("name", LOST)
def test_batch_that_is_lost(name, saved, tmp_path):
    source = saved(tmp_path / "fixed.onnx", *LOST[name](), 1)
    remedy = "evaluation mode" if name == "training" else "dynamic batch axis"
    with pytest.raises(ModelError, match=rf"node 'node\d' \(\w+\) .*{remedy}") as caught:
        canonicalize(source)
    assert len(str(caught.value).splitlines()) == 1
    assert "ONNXRuntimeError" not in str(caught.value)


@pytest.mark.parametrize("declared", [None, "N"], ids=["fixed", "free"])
def test_training_mode_is_told_by_node(declared, saved, tmp_path):
    nodes, constants = LOST["training"]()
    source = saved(tmp_path / "training.onnx", nodes, constants, 1, declared=declared)
    with pytest.raises(ModelError, match=r"node 'node1' \(BatchNormalization\) is in training mode: .*evaluation mode"):
        inspect_model(source)


def test_instance_normalization_by_training_mode(saved, tmp_path):
    """Statistics over one image each, as some exporters write InstanceNormalization for a free batch."""
    nodes = [
        ("Shape", "c", "n", {"end": 1}),
        ("Mul", "n four", "wide"),
        ("Concat", "one wide size", "folded", {"axis": 0}),
        ("Reshape", "c folded", "f"),
        ("Expand", "unit wide", "s"),
        ("Expand", "none wide", "z"),
        ("BatchNormalization", "f s z z s", "g m v", {"training_mode": 1}),
        ("Shape", "c", "whole"),
        ("Reshape", "g whole", "h"),
        ("Sigmoid", "h", "i"),
        ("Mul", "i c", "x"),
    ]
    constants = {"one": numbers(1), "four": numbers(CHANNELS), "size": numbers(*SIZE)}
    constants |= {"unit": np.ones(1, np.float32), "none": np.zeros(1, np.float32)}
    source = saved(tmp_path / "instance.onnx", nodes, constants, 1, declared="N")
    pictures = images(3)
    wanted = onnxruntime.InferenceSession(source).run(None, {"image": pictures})[0]
    assert np.allclose(run(canonicalize(source).model, {"image": pictures})[0], wanted, atol=1e-5)
