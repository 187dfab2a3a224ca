"""What the files of the single graph promise to whoever runs them."""

import onnx
import onnxruntime
import pytest

from fusioncam.errors import BundleError, ModelError, UsageError
from fusioncam.export import check, export_model, single, single_graph, unrolled_graphs
from fusioncam.export.single.metadata import metadata
from fusioncam.manifest import CHUNK_GRAPH, EXPLAIN_GRAPH, FUSE_GRAPH, SINGLE_GRAPH, WEIGHTS, read_bundle, sha256

FORMS = (SINGLE_GRAPH, CHUNK_GRAPH, FUSE_GRAPH)
REAL, WHOLE = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
LABELS = ("one", "two words", "drei", "vier", "fünf")
PREPROCESSING = {"rescale": 1 / 255, "mean": (0.485, 0.456, 1e-7), "std": (0.229, 1, 3), "channel_order": "bgr"}


@pytest.fixture(scope="module")
def source(make_tiny):
    """A network with dead and constant channels."""
    return make_tiny(zero=(1, 5), constant=(3,)).bundle.with_suffix(".onnx")


@pytest.fixture(scope="module")
def bundle(source, tmp_path_factory):
    """A bundle with all forms."""
    folder = tmp_path_factory.mktemp("forms") / "all.fcam"
    export_model(source, folder, layer="layer", labels=LABELS, preprocessing=PREPROCESSING, single=True, unrolled=8)
    return folder


def ports(values):
    return {v.name: (v.type.tensor_type.elem_type, [d.dim_value for d in v.type.tensor_type.shape.dim]) for v in values}


def test_inputs_and_outputs(bundle):
    graph = onnx.load(bundle / SINGLE_GRAPH).graph
    assert ports(graph.input) == {"image": (REAL, [1, 3, 24, 32]), "class_index": (WHOLE, [1])}
    maps = dict.fromkeys(("fusion_cam", "grad_cam", "score_cam"), (REAL, [1, 24, 32]))
    assert ports(graph.output) == {**maps, "logits": (REAL, [1, 5])}
    known = {"image": (REAL, [1, 3, 24, 32]), "class_index": (WHOLE, [1]), "logits": (REAL, [1, 5])}
    layer = (REAL, [1, 12, 6, 8])
    chunk, fuse = (onnx.load(bundle / name).graph for name in (CHUNK_GRAPH, FUSE_GRAPH))
    assert ports(chunk.input) == {**known, "activations": layer, "channels": (WHOLE, [8])}
    assert ports(chunk.output) == {"scores": (REAL, [8])}
    assert ports(fuse.input) == {**known, "activations": layer, "gradients": layer, "scores": (REAL, [12])}
    assert ports(fuse.output) == maps


@pytest.mark.parametrize("name", FORMS)
def test_is_plain_onnx(name, bundle):
    model = onnx.load(bundle / name)
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    assert [(o.domain, 17 <= o.version <= 20) for o in model.opset_import] == [("", True)]
    assert {n.domain for n in every_node(model.graph)} == {""}
    assert not any(t.external_data for g in every_graph(model.graph) for t in g.initializer)


def every_graph(graph):
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from every_graph(attribute.g)


def every_node(graph):
    return (node for g in every_graph(graph) for node in g.node)


def test_says_all_that_is_needed_to_run_it(bundle):
    manifest = read_bundle(bundle)
    said = onnxruntime.InferenceSession(bundle / SINGLE_GRAPH).get_modelmeta().custom_metadata_map
    own = {k.removeprefix("fusioncam."): v for k, v in said.items()}
    assert all(k.startswith("fusioncam.") for k in said)
    prep = manifest.preprocessing
    assert {k: own[k] for k in ("schema_version", "size", "channel_order", "resize")} == {
        "schema_version": "1", "size": "24 32", "channel_order": "bgr", "resize": "squash",
    }  # fmt: skip
    assert float(own["rescale"]) == prep.rescale
    assert float(own["crop_fraction"]) == prep.crop_fraction
    assert tuple(map(float, own["mean"].split(" "))) == prep.mean
    assert tuple(map(float, own["std"].split(" "))) == prep.std
    assert own["preprocessing_origin"] == "user"
    assert (own["classes"], own["ending"], own["layer"]) == ("5", "logits", "layer")
    assert own["reach"] == "reached"
    assert own["source_sha256"] == manifest.source.sha256
    assert tuple(own["labels"].split("\n")) == LABELS


@pytest.mark.parametrize(
    ("given", "version"),
    [
        ({"resize": "crop"}, "1"),
        ({"interpolation": "bicubic"}, "2"),
        ({"crop_rounding": "down"}, "2"),
        ({"resize": "letterbox"}, "2"),
    ],
)
def test_readers_of_the_first_version_do_not_take_another_filter_for_theirs(given, version, bundle):
    manifest = read_bundle(bundle)
    said = metadata(manifest.model_copy(update={"preprocessing": manifest.preprocessing.model_copy(update=given)}))
    assert said["fusioncam.schema_version"] == version
    assert all(said[f"fusioncam.{key}"] == value for key, value in given.items())


def test_no_labels_are_not_said(usual):
    model = onnx.load_from_string(single_graph(usual))
    assert "fusioncam.labels" not in {p.key for p in model.metadata_props}


def test_the_bundle_knows_its_files(bundle):
    manifest = read_bundle(bundle)
    assert set(FORMS) <= manifest.files.keys()
    assert manifest.has_single
    assert all(manifest.files[name] == sha256(bundle / name) for name in FORMS)
    assert [f.what for f in check(bundle) if not f.ok] == []
    assert (bundle / SINGLE_GRAPH).read_bytes() == single_graph(bundle)
    assert {n: (bundle / n).read_bytes() for n in FORMS[1:]} == unrolled_graphs(bundle, 8)


@pytest.mark.parametrize("name", FORMS)
def test_check_finds_a_wrong_form(name, source, tmp_path, monkeypatch):
    real = single.write_variants

    def damaged(folder, *given):
        written = real(folder, *given)
        model = onnx.load(folder / name)
        for graph in every_graph(model.graph):
            for tensor in graph.initializer:
                if tensor.name.endswith("/w3"):
                    tensor.CopyFrom(onnx.numpy_helper.from_array(2 * onnx.numpy_helper.to_array(tensor), tensor.name))
        onnx.save(model, folder / name)
        return written

    monkeypatch.setattr("fusioncam.export.assembly.write_variants", damaged)
    export_model(source, tmp_path / "t.fcam", layer="layer", single=True, unrolled=5)
    ((what, error),) = [(f.what, f.error) for f in check(tmp_path / "t.fcam") if not f.ok]
    assert what.startswith("maps of ")
    assert name in what
    assert error > 1e-3


def test_weights_are_in_the_file_twice_or_once(bundle):
    weights = (bundle / WEIGHTS).stat().st_size
    constants = [
        sum(t.ByteSize() for g in every_graph(onnx.load_from_string(data).graph) for t in g.initializer)
        for data in (single_graph(bundle), single_graph(bundle, shared_weights=True))
    ]
    assert constants[0] - constants[1] > 0.9 * weights


WRONG = {
    "--shared-weights .*; add --single": {"shared_weights": True},
    "--chunk is an option of the single graph; add --single": {"chunk": 4},
    "--chunk takes a number of masks from 1 to 4096, not 0": {"single": True, "chunk": 0},
    "--for takes any or tensorrt, not 'gpu'": {"single_for": "gpu"},
    "--unrolled takes a number of masks from 1 to 4096, not 0": {"unrolled": 0},
    "--single needs the gradient, for Fusion-CAM": {"single": True, "gradient": False},
    "--unrolled needs the gradient, for Fusion-CAM": {"unrolled": 8, "gradient": False},
}


@pytest.mark.parametrize("message", WRONG)
def test_what_makes_no_sense(message, source, tmp_path):
    with pytest.raises(UsageError, match=message):
        export_model(source, tmp_path / "t.fcam", layer="layer", **WRONG[message])
    assert list(tmp_path.iterdir()) == []


def test_bundles_it_cannot_be_made_of(source, bundle, tmp_path, monkeypatch):
    export_model(source, tmp_path / "t.fcam", layer="layer", gradient=False)
    with pytest.raises(UsageError, match="has no gradient"):
        single_graph(tmp_path / "t.fcam")
    with pytest.raises(BundleError, match="is no bundle"):
        single_graph(tmp_path)
    with pytest.raises(UsageError, match="from 1 to 4096"):
        unrolled_graphs(bundle, -1)
    monkeypatch.setattr(single, "MOST_BYTES", 10_000)
    with pytest.raises(ModelError, match=r"would take .* GB, and an ONNX file holds 2 GB at most"):
        single_graph(bundle)


def test_nothing_is_left_where_it_fails(source, tmp_path, monkeypatch):
    monkeypatch.setattr(single, "MOST_BYTES", 10_000)
    with pytest.raises(ModelError, match="2 GB at most"):
        export_model(source, tmp_path / "t.fcam", layer="layer", single=True)
    assert list(tmp_path.iterdir()) == []


def test_an_older_bundle_with_forms_is_replaced(source, tmp_path):
    export_model(source, tmp_path / "t.fcam", layer="layer", single=True, unrolled=4)
    assert not export_model(source, tmp_path / "t.fcam", layer="layer").has_single
    assert not any((tmp_path / "t.fcam" / name).exists() for name in FORMS)
    assert (tmp_path / "t.fcam" / EXPLAIN_GRAPH).exists()
