import hashlib
import json
import os

import onnx
import onnx_ir as ir
import pytest

from fusioncam.errors import BundleError, ModelError, OutputError
from fusioncam.export import bundle as writing
from fusioncam.export import check, export_model
from fusioncam.export.bundle import whole_folder
from fusioncam.manifest import (
    EXPLAIN_GRAPH,
    HEAD_GRAPH,
    MANIFEST,
    SCORE_GRAPH,
    WEIGHTS,
    read_bundle,
    read_manifest,
    signed,
)

FILES = {EXPLAIN_GRAPH, HEAD_GRAPH, MANIFEST, SCORE_GRAPH, WEIGHTS}


def content(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.fixture
def exported(tiny, tmp_path):
    source = tiny()
    return source, tmp_path / "t.fcam", export_model(source, tmp_path / "t.fcam")


def test_contract(exported):
    source, folder, manifest = exported
    assert {p.name for p in folder.iterdir()} == FILES
    assert read_manifest(folder / MANIFEST) == manifest
    assert manifest.source.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert (folder / manifest.source.path).resolve() == source.resolve()
    assert set(manifest.files) == FILES - {MANIFEST}
    for name, digest in manifest.files.items():
        assert digest == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    assert manifest.tools.keys() == {"onnx", "onnx-ir", "onnxscript", "numpy", "fusioncam"}


def ports(values):
    return {
        v.name: (v.type.tensor_type.elem_type, [d.dim_value or d.dim_param for d in v.type.tensor_type.shape.dim])
        for v in values
    }


def test_inputs_and_outputs(exported):
    _, folder, manifest = exported
    score, explain, head = (onnx.load(folder / name).graph for name in (SCORE_GRAPH, EXPLAIN_GRAPH, HEAD_GRAPH))
    real, integer = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    assert ports(score.input) == {"image": (real, ["N", 3, 8, 6])}
    assert ports(score.output) == {"logits": (real, ["N", 5])}
    assert ports(explain.input) == {**ports(score.input), "class_index": (integer, ["N"])}
    assert [o.name for o in explain.output] == ["logits", "activations", "gradients"]
    assert ports(explain.output)["activations"] == (real, ["N", 6, 4, 6]) == ports(explain.output)["gradients"]
    assert ports(head.input) == {"image": (real, [1, 3, 8, 6]), "masks": (real, ["M", 1, 4, 6])}
    assert ports(head.output) == {"logits": (real, ["M", 5])}
    for name in (SCORE_GRAPH, EXPLAIN_GRAPH, HEAD_GRAPH):
        onnx.checker.check_model(folder / name, full_check=True)
    assert manifest.layer.name in {o for n in score.node for o in n.output}


def test_weights_are_stored_once(export_of):
    exported = export_of("resnet_basic")
    weights = (exported.bundle / WEIGHTS).stat().st_size
    copy = sum(onnx.numpy_helper.to_array(t).nbytes for t in onnx.load(exported.source).graph.initializer)
    assert 0.95 * copy < weights < 1.05 * copy
    for name in (SCORE_GRAPH, EXPLAIN_GRAPH, HEAD_GRAPH):
        assert (exported.bundle / name).stat().st_size < 0.5 * weights
        for tensor in onnx.load(exported.bundle / name, load_external_data=False).graph.initializer:
            facts = {e.key: e.value for e in tensor.external_data}
            assert facts.get("location", WEIGHTS) == WEIGHTS
            assert int(facts.get("offset", 0)) % writing.ALIGNMENT == 0


def test_a_bundle_of_before_there_were_heads(exported):
    _, folder, manifest = exported
    said = json.loads((folder / MANIFEST).read_text())
    del said["files"][HEAD_GRAPH], said["source"]["ending"], said["source"]["outputs"], said["gradient"]
    (folder / MANIFEST).write_bytes(signed(json.dumps(said).encode()))
    older = read_bundle(folder)
    assert (manifest.has_head, older.has_head, older.gradient) == (True, False, True)
    assert [f.ok for f in check(folder)] == [True] * 4
    del said["files"][SCORE_GRAPH]
    (folder / MANIFEST).write_bytes(signed(json.dumps(said).encode()))
    with pytest.raises(BundleError, match="export the model again"):
        read_bundle(folder)


def test_two_exports_are_the_same(exported, tmp_path):
    source, folder, _ = exported
    export_model(source, tmp_path / "again.fcam")
    assert content(folder) == content(tmp_path / "again.fcam")


def test_replaces_an_older_bundle(exported, tiny, tmp_path):
    _, folder, manifest = exported
    again = export_model(tiny("other.onnx", ending=["Softmax"]), folder)
    assert (manifest.ending, again.ending) == ("logits", "softmax")
    assert json.loads((folder / MANIFEST).read_text())["ending"] == "softmax"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.onnx", "t.fcam", "tiny.onnx"]


def test_takes_an_empty_folder_and_makes_parents(tiny, tmp_path):
    (tmp_path / "t.fcam").mkdir()
    export_model(tiny(), tmp_path / "t.fcam")
    export_model(tiny(), tmp_path / "a" / "b" / "t.fcam")
    assert content(tmp_path / "t.fcam").keys() == content(tmp_path / "a" / "b" / "t.fcam").keys() == FILES


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_leaves_alone_what_is_no_bundle(kind, tiny, tmp_path):
    target = tmp_path / "precious"
    if kind == "folder":
        target.mkdir()
    path = target / "notes.txt" if kind == "folder" else target
    path.write_text("mine")
    with pytest.raises(OutputError, match="is there already and is no bundle"):
        export_model(tiny(), target)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("old", [False, True])
def test_failure_in_the_middle(old, exported, tiny, tmp_path, monkeypatch):
    _, folder, _ = exported
    target = folder if old else tmp_path / "new.fcam"
    before = content(folder)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ir, "save", full)
    with pytest.raises(OutputError, match="No space left on device"):
        export_model(tiny(), target)
    assert content(folder) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.fcam", "tiny.onnx"]


def test_wrong_graph_is_not_left_behind(tiny, tmp_path, monkeypatch):
    real = writing.write_graphs

    def damaged(folder, graphs, lender):
        weight = graphs[SCORE_GRAPH].graph.initializers["w1"]
        weight.const_value = ir.tensor(2 * weight.const_value.numpy(), name="w1")
        real(folder, graphs, lender)

    monkeypatch.setattr("fusioncam.export.assembly.write_graphs", damaged)
    with pytest.raises(
        ModelError, match=r"the exported graph is wrong: output of score\.onnx equals the source's: off by"
    ):
        export_model(tiny(), tmp_path / "t.fcam")
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.onnx"]


def test_old_bundle_survives_a_failed_swap(exported, tmp_path, monkeypatch):
    _, folder, _ = exported
    before = content(folder)
    rename, calls = type(folder).rename, []

    def second_fails(self, target):
        calls.append(target)
        if len(calls) == 2:
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(type(folder), "rename", second_fails)
    with pytest.raises(OutputError, match="Permission denied"), whole_folder(folder) as temporary:
        (temporary / MANIFEST).write_text("new")
    assert content(folder) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.fcam", "tiny.onnx"]


def test_place_that_cannot_be_written(tiny, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="choose another place with -o"):
        export_model(tiny(), tmp_path / "file" / "t.fcam")
    if os.geteuid() == 0:
        return  # root may write anywhere
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    with pytest.raises(OutputError, match="Permission denied"):
        export_model(tiny(), locked / "t.fcam")


def test_interrupt_leaves_nothing(tmp_path):
    def interrupted():
        with whole_folder(tmp_path / "t.fcam") as temporary:
            (temporary / MANIFEST).write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("manifest", ['{"name": "my app"}', "not json", "[1]"])
def test_a_manifest_alone_makes_no_bundle(manifest, tiny, tmp_path):
    target = tmp_path / "site"
    target.mkdir()
    (target / MANIFEST).write_text(manifest)
    with pytest.raises(OutputError, match="is no bundle"):
        export_model(tiny(), target)
    (target / "app.js").write_text("mine")
    with pytest.raises(OutputError, match=r"holds files that are not a bundle's \('app\.js'\); choose another name"):
        export_model(tiny(), target)
    assert content(target) == {MANIFEST: manifest.encode(), "app.js": b"mine"}


def test_what_lies_in_an_older_bundle_is_not_lost(exported):
    source, folder, _ = exported
    inside = folder / "model.onnx"
    inside.write_bytes(source.read_bytes())
    with pytest.raises(OutputError, match="holds the model itself"):
        export_model(inside, folder)
    with pytest.raises(OutputError, match=r"not a bundle's \('model\.onnx'\)"):
        export_model(source, folder)
    inside.unlink()

    def dropped():
        with whole_folder(folder) as temporary:
            (temporary / MANIFEST).write_text("new")
            (folder / "notes.txt").write_text("written meanwhile")

    with pytest.raises(OutputError, match=r"notes\.txt"):
        dropped()
    assert content(folder).keys() == FILES | {"notes.txt"}


def test_a_bundle_of_another_schema_is_replaced(exported):
    source, folder, manifest = exported
    older = {"schema_version": 0, "layer": "relu", "files": []}
    (folder / MANIFEST).write_bytes(signed(json.dumps(older).encode()))
    assert export_model(source, folder) == manifest


@pytest.mark.parametrize("dangling", [True, False])
def test_a_link_stays(dangling, tiny, tmp_path):
    real, link = tmp_path / "real", tmp_path / "link.fcam"
    link.symlink_to(real)
    if not dangling:
        export_model(tiny(), real)
    manifest = export_model(tiny(), link)
    assert link.is_symlink()
    assert not real.is_symlink()
    assert content(real).keys() == FILES
    assert (real / manifest.source.path).resolve() == tmp_path / "tiny.onnx"


@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "circle"])
def test_names_that_cannot_be(name, tiny, tmp_path):
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(OutputError, match="choose another") as caught:
        export_model(tiny(), tmp_path / name)
    assert len(str(caught.value).splitlines()) == 1


def test_interrupt_right_after_the_start_leaves_nothing(tmp_path, monkeypatch):
    real = type(tmp_path).mkdir

    def interrupted(self, **options):
        real(self, **options)
        if self != tmp_path:
            raise KeyboardInterrupt

    monkeypatch.setattr(type(tmp_path), "mkdir", interrupted)
    tmp_path.joinpath("kept.txt").write_text("")

    def begin():
        with whole_folder(tmp_path / "t.fcam"):
            raise AssertionError("not reached")

    with pytest.raises(KeyboardInterrupt):
        begin()
    assert [p.name for p in tmp_path.iterdir()] == ["kept.txt"]


def test_interrupt_between_old_and_new_brings_the_old_back(exported, tmp_path, monkeypatch):
    _, folder, _ = exported
    before, real, calls = content(folder), type(folder).rename, []

    def interrupted(self, target):
        calls.append(target)
        moved = real(self, target)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return moved

    monkeypatch.setattr(type(folder), "rename", interrupted)

    def replace():
        with whole_folder(folder) as temporary:
            (temporary / MANIFEST).write_text("new")

    with pytest.raises(KeyboardInterrupt):
        replace()
    assert content(folder) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.fcam", "tiny.onnx"]
