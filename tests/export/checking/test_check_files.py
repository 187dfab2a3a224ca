"""Bundles whose files are not those they were written with, some of them with the digests to match."""

import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from fusioncam.errors import BundleError
from fusioncam.export import check, export_model
from fusioncam.manifest import EXPLAIN_GRAPH, HEAD_GRAPH, MANIFEST, SCORE_GRAPH, WEIGHTS, read_bundle, signed


@pytest.mark.parametrize("name", [SCORE_GRAPH, EXPLAIN_GRAPH, HEAD_GRAPH, "weights.bin"])
def test_touched_file(name, bundle):
    with (bundle / name).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BundleError, match=rf"{name} was changed since the export"):
        check(bundle)
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=f"lacks {name}"):
        check(bundle)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Makes a bundle whose weights are beside its graphs, of so many channels."""

    def save(channels, precision):
        folder = tmp_path_factory.mktemp("large")
        rng = np.random.default_rng(channels)
        shapes = {"w": (channels, 3, 5, 5), "v": (channels, 80)}
        graph = helper.make_graph(
            [
                helper.make_node("Conv", ["image", "w"], ["conv"]),
                helper.make_node("GlobalAveragePool", ["conv"], ["pooled"]),
                helper.make_node("Flatten", ["pooled"], ["flat"]),
                helper.make_node("Gemm", ["flat", "v"], ["scores"]),
            ],
            "large",
            [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 3, 8, 8])],
            [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["N", 80])],
            [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), n) for n, s in shapes.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        onnx.save(model, folder / "large.onnx")
        export_model(folder / "large.onnx", folder / "large.fcam", precision=precision)
        return folder / "large.fcam"

    return save


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_weights_of_another_bundle(precision, large, sign):
    bundle = large(16, precision)
    shutil.copy(large(24, precision) / WEIGHTS, bundle / WEIGHTS)
    sign(bundle)
    assert f"output of {SCORE_GRAPH} equals the source's" in [f.what for f in check(bundle) if not f.ok]
    shutil.copy(large(8, precision) / WEIGHTS, bundle / WEIGHTS)  # too short
    sign(bundle)
    with pytest.raises(BundleError, match=r"; export the model again$") as caught:
        check(bundle)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_swapped_graphs(precision, tiny, tmp_path, sign):
    bundle = tmp_path / "t.fcam"
    export_model(tiny(), bundle, precision=precision)
    explain, score = ((bundle / name).read_bytes() for name in (EXPLAIN_GRAPH, SCORE_GRAPH))
    for one, other, wrong in ((score, explain, EXPLAIN_GRAPH), (score, score, EXPLAIN_GRAPH), (explain, explain, "")):
        (bundle / EXPLAIN_GRAPH).write_bytes(one)
        (bundle / SCORE_GRAPH).write_bytes(other)
        sign(bundle)
        with pytest.raises(BundleError, match=rf"{wrong or SCORE_GRAPH} takes \['.*; export the model again$"):
            check(bundle)


@pytest.mark.parametrize("content", [b"", b"nothing"])
@pytest.mark.parametrize("name", [EXPLAIN_GRAPH, SCORE_GRAPH])
def test_a_file_that_is_no_graph(name, content, bundle, sign):
    (bundle / name).write_bytes(content)
    sign(bundle)
    with pytest.raises(BundleError, match=r"; export the model again$") as caught:
        check(bundle)
    assert "\n" not in str(caught.value)


def test_a_graph_that_lacks_an_output(bundle, sign):
    model = onnx.load(bundle / EXPLAIN_GRAPH, load_external_data=False)
    model.graph.output.remove(next(o for o in model.graph.output if o.name == "logits"))
    onnx.save(model, bundle / EXPLAIN_GRAPH)
    sign(bundle)
    with pytest.raises(BundleError, match=r"do not belong together \(.*; export the model again"):
        check(bundle)


def test_no_bundle(tmp_path):
    for folder in (tmp_path, tmp_path / "none", __file__):
        with pytest.raises(BundleError, match="is no bundle"):
            check(type(tmp_path)(folder))
    (tmp_path / MANIFEST).write_text('{"schema_version": 2}')
    with pytest.raises(BundleError, match="export the model again"):
        check(tmp_path)


@pytest.mark.parametrize("files", [{}, {"score.onnx": "0"}, {"manifest.json": "0"}, {"../../secret": "0"}])
def test_files_are_those_of_a_bundle(files, bundle):
    content = json.loads((bundle / MANIFEST).read_text())
    for changed in (files, {**content["files"], **files, "more.bin": "0"}):
        (bundle / MANIFEST).write_bytes(signed(json.dumps({**content, "files": changed}).encode()))
        with pytest.raises(BundleError, match="export the model again"):
            read_bundle(bundle)


def test_layer_that_is_not_there(bundle):
    content = json.loads((bundle / MANIFEST).read_text())
    content["layer"]["name"] = "elsewhere"
    (bundle / MANIFEST).write_bytes(signed(json.dumps(content).encode()))
    with pytest.raises(BundleError, match="no tensor 'elsewhere'"):
        check(bundle)
