"""The single graph and the graphs without a Loop for maps of classes, maps of values and embeddings."""

import numpy as np
import onnx
import pytest

from fusioncam import Class, Explainer, Like, Region, Value
from fusioncam.export import check, export_model, single_graph
from fusioncam.manifest import CHUNK_GRAPH, EXPLAIN_GRAPH, FUSE_GRAPH, SINGLE_GRAPH, read_bundle

SAME = 1e-4
FORMS = (SINGLE_GRAPH, CHUNK_GRAPH, FUSE_GRAPH)
MAPS = ("fusion_cam", "grad_cam", "score_cam")
REAL, WHOLE, TRUTH = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL
NONE = np.zeros((12, 16), np.float32)


def part():
    """A region with weights of its own."""
    region = NONE.copy()
    region[2:7, 3:11] = np.linspace(0.2, 1, 8, dtype=np.float32)
    return region


def of_maps(c, region=NONE, peak=False):
    return {"class_index": np.int64(c), "region": region, "peak": np.bool_(peak)}


GIVEN = {
    "the class that covers most": ("segment", of_maps(-1)),
    "where a class wins": ("segment", of_maps(1)),
    "its peak there": ("segment", of_maps(1, peak=True)),
    "a class over a region": ("segment", of_maps(2, part())),
    "the best class of a region": ("segment", of_maps(-1, part())),
    "a peak in a region": ("segment", of_maps(0, part(), True)),
    "what is there": ("binary", of_maps(1)),
    "what is there most": ("binary", of_maps(-1)),
    "not in a region": ("binary", of_maps(0, part())),
    "a value everywhere": ("value", of_maps(1)),
    "the highest value": ("value", of_maps(-1)),
    "the peak of a value in a region": ("value", of_maps(0, part(), True)),
    "a likeness": ("embed", {"reference": np.linspace(-3, 1, 6, dtype=np.float32)}),
}


def resolved(network, x, target):
    """The target with what the graph fills in, by float64."""
    if "reference" in target:
        return target
    c, region = int(target["class_index"]), target["region"]
    z = network.outputs(network.layer(x[None]))[0].numpy()
    if not region.any() and network.kind == "value":
        region = NONE + 1
    if c < 0:
        covers = (z * region).sum((1, 2)) if region.any() else network.wins(x).sum((1, 2))
        c = int(covers.argmax())
    if not region.any():
        region = network.wins(x)[c].astype(np.float32)
    return {**target, "class_index": np.int64(c), "region": region}


def expected(oracle, network, x, target):
    """The maps by the method written a second time, with scores of the network in float64."""

    class Plain(oracle):
        def __init__(self):
            pass

        def outputs(self, x):
            return network.outputs(network.layer(x[None]))

        def confidence(self, x, _):
            return float(network.confidence(self.outputs(x), target))

        def scores(self, x, _, activations):
            masks = (self.unit(self.up(a, x.shape[1:])) for a in activations)
            return np.array([float(network.score(self.outputs(x * m), target)) for m in masks])

    return Plain().maps(x.astype(np.float64), None, *network.evidence(x, target))


@pytest.mark.parametrize("case", GIVEN)
def test_maps_of_a_target(case, oracle, target_bundle, pictures, run_single, run_unrolled):
    kind, given = GIVEN[case]
    network, bundle = target_bundle(kind)
    x = pictures[1]
    target = resolved(network, x, given)
    wanted = expected(oracle, network, x, target)
    found = run_single(bundle)(x, given)
    outputs = network.outputs(network.layer(x[None]))
    assert found["scores"][0] == pytest.approx(float(network.score(outputs, target)), abs=1e-5)
    assert found["confidences"][0] == pytest.approx(float(network.confidence(outputs, target)), abs=1e-5)
    for name, output in (("region", "explained_region"), ("class_index", "explained_class")):
        if name in target:
            np.testing.assert_array_equal(found[output][0], target[name])
    for maps in (found, run_unrolled(bundle)(x, target)):
        for name in MAPS:
            assert wanted[name].std() > 0.05
            np.testing.assert_allclose(maps[name][0], wanted[name], atol=SAME, err_msg=name)


EXPLAINED = {
    "segment": [(None, of_maps(-1)), (Class(1), of_maps(1)), (Region(1, peak=True), of_maps(1, peak=True))],
    "binary": [(None, of_maps(-1)), (Class(0), of_maps(0))],
    "value": [(Value(1), of_maps(1)), (Region(0, peak=True), of_maps(0, peak=True))],
    "embed": [(Like(v := np.linspace(2, -1, 6, dtype=np.float32)), {"reference": v})],
}


@pytest.mark.parametrize("kind", EXPLAINED)
def test_maps_are_those_of_the_explainer(kind, target_bundle, pictures, run_single, run_unrolled):
    bundle = target_bundle(kind).bundle
    explainer, single, unrolled = Explainer(bundle), run_single(bundle), run_unrolled(bundle)
    for target, given in EXPLAINED[kind]:
        for x in pictures:
            wanted, found = explainer.explain(x, target=target), single(x, given)
            assert found["scores"][0] == pytest.approx(wanted.score, abs=1e-5)
            assert found["confidences"][0] == pytest.approx(wanted.probability, abs=1e-5)
            for maps in (found, unrolled(x, wanted.target.tensors)):
                assert max(np.abs(maps[name][0] - wanted.maps[name]).max() for name in MAPS) <= SAME


def test_a_class_that_wins_nowhere_gives_no_map(target_bundle, run_single):
    """None of the numbers looks like a result."""
    network, bundle = target_bundle("segment")
    x = np.zeros((3, 24, 32), np.float32)
    (absent,) = np.flatnonzero(~network.wins(x).any((1, 2)))[:1]
    found = run_single(bundle)(x, of_maps(absent))
    assert not found["explained_region"].any()
    assert not any(np.isfinite(found[name]).any() for name in ("scores", "confidences", *MAPS))


@pytest.mark.parametrize("kind", ["segment", "embed"])
@pytest.mark.parametrize("options", [{"shared_weights": True}, {"chunk": 5}])
def test_options_change_no_map(kind, options, target_bundle, pictures, run_single):
    bundle = target_bundle(kind).bundle
    given = next(target for k, target in GIVEN.values() if k == kind)
    one, other = run_single(bundle)(pictures[0], given), run_single(bundle, **options)(pictures[0], given)
    for name, found in one.items():
        np.testing.assert_allclose(other[name], found, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("kind", ["segment", "embed"])
def test_scores_in_float16(kind, target_bundle, pictures, run_single, run_unrolled, tmp_path):
    network, bundle = target_bundle(kind)
    options = {"layer": "layer", "task": network.task, "precision": "fp16"}
    export_model(bundle.with_suffix(".onnx"), tmp_path / "t.fcam", **options)
    given = next(resolved(network, pictures[0], target) for k, target in GIVEN.values() if k == kind)
    wanted = run_single(bundle)(pictures[0], given)
    for run in (run_single(tmp_path / "t.fcam"), run_unrolled(tmp_path / "t.fcam")):
        found = run(pictures[0], given)
        assert max(np.abs(found[name] - wanted[name]).max() for name in MAPS) <= 1e-2


def ports(values):
    return {v.name: (v.type.tensor_type.elem_type, [d.dim_value for d in v.type.tensor_type.shape.dim]) for v in values}


OF_MAPS = {"class_index": (WHOLE, [1]), "region": (REAL, [1, 12, 16]), "peak": (TRUTH, [1])}
ASKED = {"segment": OF_MAPS, "embed": {"reference": (REAL, [1, 6])}}
TOLD = {
    "segment": {
        "logits": (REAL, [1, 4, 12, 16]),
        "explained_class": (WHOLE, [1]),
        "explained_region": (REAL, [1, 12, 16]),
    },
    "embed": {"embedding": (REAL, [1, 6])},
}


@pytest.fixture(scope="module")
def every_form(target_bundle, tmp_path_factory):
    """Bundles with all forms, by kind."""
    made = {}

    def every_form(kind):
        if kind not in made:
            network, bundle = target_bundle(kind)
            made[kind] = tmp_path_factory.mktemp("forms") / f"{kind}.fcam"
            export_model(bundle.with_suffix(".onnx"), made[kind], task=network.task, single=True, unrolled=8)
        return made[kind]

    return every_form


@pytest.mark.parametrize("kind", ASKED)
def test_inputs_and_outputs(kind, every_form):
    single, chunk, fuse = (onnx.load(every_form(kind) / name).graph for name in FORMS)
    image, layer = {"image": (REAL, [1, 3, 24, 32])}, (REAL, [1, 12, 6, 8])
    maps, scored = dict.fromkeys(MAPS, (REAL, [1, 24, 32])), dict.fromkeys(("scores", "confidences"), (REAL, [1]))
    assert ports(single.input) == image | ASKED[kind]
    assert ports(single.output) == maps | TOLD[kind] | scored
    known = image | ASKED[kind] | ({"logits": TOLD[kind]["logits"]} if kind == "segment" else {})
    assert ports(chunk.input) == {**known, "activations": layer, "channels": (WHOLE, [8])}
    assert ports(fuse.input) == {**known, "activations": layer, "gradients": layer, "scores": (REAL, [12])}


@pytest.mark.parametrize("kind", ASKED)
@pytest.mark.parametrize("name", FORMS)
def test_is_plain_onnx_and_says_its_task(kind, name, every_form):
    model = onnx.load(every_form(kind) / name)
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    said = {p.key.removeprefix("fusioncam."): p.value for p in model.metadata_props}
    assert (said["task"], said["schema_version"]) == (kind, "3")
    assert said.get("map_size") == ("12 16" if kind == "segment" else None)


@pytest.mark.parametrize("kind", ["segment", "binary", "value", "embed"])
def test_check_compares_all_forms(kind, every_form):
    findings = check(every_form(kind))
    assert [f.what for f in findings if not f.ok] == []
    assert sum("are those of the method" in f.what for f in findings) == 2


@pytest.mark.parametrize("kind", ASKED)
def test_tensorrt_takes_it(kind, every_form, refused):
    assert refused(every_form(kind), FORMS) == []


def test_the_explain_graph_stays_as_it_is(every_form):
    """The defaults are of the single graph alone."""
    folder = every_form("segment")
    before = (folder / EXPLAIN_GRAPH).read_bytes()
    single_graph(folder)
    assert (folder / EXPLAIN_GRAPH).read_bytes() == before
    assert read_bundle(folder).has_single
