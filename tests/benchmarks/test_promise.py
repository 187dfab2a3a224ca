"""The benchmark of the promise: its replay is a real run, its table keeps its rule, and it runs in miniature."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.export import export_model
from fusioncam.runtime.demo import MODEL
from fusioncam.runtime.demo.scenes import draw_scene
from fusioncam.runtime.photos.model_input import as_input
from fusioncam.runtime.probes.likeness import correlation


@pytest.fixture
def command(part):
    path = Path(part("demo_model").__file__).with_name("promise.py")
    spec = importlib.util.spec_from_file_location("benchmarks_promise_command", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # whose functions go to other processes by name
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def demo_bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "shapes.fcam"
    export_model(MODEL, folder)
    return folder


@pytest.fixture(scope="module")
def scene():
    return draw_scene(500_003, objects=3).image


@pytest.fixture(scope="module")
def stored(part, demo_bundle, scene, tmp_path_factory):
    """A case of the demo's model, written to a file and read again."""
    store = part("promise.store")
    explainer = Explainer(demo_bundle, methods=["score_cam"], chunk=16)
    path = tmp_path_factory.mktemp("store") / "last-scene.npz"
    store.measure(explainer.pipeline.preferred, as_input(scene, explainer.manifest.preprocessing)[1]).save(path)
    return store.load(path)


@pytest.mark.parametrize("budget", ["exact", "auto", "auto:0.01", 0.2, 40])
@pytest.mark.parametrize("positions", [[0], [3], [0, 1, 2]])
def test_a_replay_is_a_real_run(part, demo_bundle, scene, stored, positions, budget):
    found = part("promise.replay").replay(stored, positions, budget)
    classes = stored.classes[positions].tolist()
    real = Explainer(demo_bundle, budget=budget, chunk=8).explain_batch([scene], [classes])
    for m, wanted in zip(found.maps, real, strict=True):
        assert found.passes[:2] == wanted.passes[:2]
        np.testing.assert_allclose(found.passes[2:], wanted.passes[2:], rtol=1e-3, atol=1e-9)
        np.testing.assert_allclose(m, wanted.maps["score_cam"], atol=1e-5)
    assert found.exact == Explainer(demo_bundle).explain_batch([scene], [classes])[0].passes.run


def test_the_stored_map_is_the_exact_one(demo_bundle, scene, stored):
    classes = stored.classes.tolist()
    for position, wanted in enumerate(Explainer(demo_bundle).explain_batch([scene], [classes])):
        np.testing.assert_allclose(stored.exact_map(position), wanted.maps["score_cam"], atol=1e-5)


def test_classes_are_stored_by_their_rank(demo_bundle, scene, stored):
    (explanation,) = Explainer(demo_bundle, methods=["grad_cam"]).explain_batch([scene])
    ranked = np.argsort(-explanation.logits)
    assert stored.classes.tolist() == [*ranked[:3], ranked[-1]]


def test_each_kind_of_network_is_in_both_halves(part):
    models = part("promise.models")
    assert len({row.name for row in models.MODELS}) == len(models.MODELS)
    kinds = [{row.block for row in models.MODELS if row.fitted == half} for half in (True, False)]
    assert kinds[0] == kinds[1]
    assert all(row.fitted == part("promise.subjects").fitted(row.name) for row in models.MODELS)


@pytest.mark.parametrize("number", range(14))
def test_a_row_is_the_network_it_says(part, number):
    import torch

    models, training = part("promise.models"), part("promise.training")
    row = models.MODELS[number]
    network = training.build(row).eval()
    maps = network[:-3](torch.zeros(1, 3, row.size, row.size))
    assert maps.shape[1] == row.channels
    assert 6 <= maps.shape[2] <= 12
    assert network(torch.zeros(2, 3, row.size, row.size)).shape == (2, 8)


def test_maps_that_are_flat_have_a_likeness(part):
    replay = part("promise.replay")
    flat, some = np.zeros((3, 3)), np.eye(3)
    assert [correlation(*pair) for pair in ((flat, flat), (flat, some), (some, some))] == [1, 0, pytest.approx(1)]
    assert replay.squared_error(-0.9) == replay.squared_error(0.0) == 1
    assert replay.squared_error(0.6) == pytest.approx(0.64)


def test_the_promise_is_the_tolerance_or_what_a_flagged_map_expects(part):
    summary = part("promise.summary")

    def run(error, promised, flagged):
        r = np.sqrt(1 - error)
        return summary.Run("m", True, "last", "p", "top", "auto", error, r, 5e-4, promised, 1.0, flagged, 0.1, 10, 40)

    found = summary.summarise(
        [run(5e-4, 1e-3, False), run(2e-3, 1e-3, False), run(6e-2, 1e-3, False), run(0.3, 0.4, True)]
    )
    assert (found["n"], found["over"], found["far_over"], found["flagged"]) == (4, 0.5, 0.25, 0.25)
    assert found["worst_r"] == pytest.approx(np.sqrt(0.7))
    assert found["worst_r_not_flagged"] == pytest.approx(np.sqrt(0.94))
    assert found["unlike_not_flagged"] == 1
    assert found["gain"] == 4


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_quick_run_fills_the_tables_and_a_replay_needs_no_model(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "BUDGETS", command.BUDGETS[:2])
    arguments = ["--quick", "--jobs", "1", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    assert command.main(arguments) == 0
    found = json.loads((tmp_path / "out" / "results" / "promise.json").read_text())
    assert set(found["halves"]) == {"auto", "auto:0.01"}
    assert found["halves"]["auto"]["fitted"]["n"] == 2 * 2 * 4  # models, layers, choices of classes
    assert "| auto, fitted | 16 |" in (tmp_path / "out" / "README.md").read_text()
    for graph in (tmp_path / "work").rglob("*.onnx"):
        graph.unlink()
    assert command.main([*arguments, "--replay"]) == 0
    again = json.loads((tmp_path / "out" / "results" / "promise.json").read_text())
    assert again["models"] == found["models"]
    capsys.readouterr()
    assert command.main([*arguments, "--replay", "--only", "nobody"]) == 1
    assert "run without --replay first" in capsys.readouterr().err
