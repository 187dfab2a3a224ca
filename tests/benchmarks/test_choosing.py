"""The benchmark of methods and layers, in miniature: two scenes, and a transformer that has not learnt."""

import json

import pytest

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # of torch, exporting


@pytest.fixture(scope="module")
def choosing(command_of):
    return command_of("choosing")


@pytest.fixture(scope="module")
def work(part, tmp_path_factory):
    """A folder with a transformer of one step."""
    folder = tmp_path_factory.mktemp("choosing")
    transformer = part("choosing.transformer")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformer, "SCENES", 16)
        patch.setattr(transformer, "accuracy", lambda network, size: 0.125)
        patch.setattr(transformer, "train", lambda train=transformer.train: train(steps=1))
        transformer.make(folder / "transformer.onnx")
    return folder


def test_the_other_layer_is_finer_or_in_the_middle_of_the_tokens(choosing, work):
    assert choosing.layers(choosing.MODEL) == {"default": "relu_6", "finer": "relu_2"}
    found = choosing.layers(work / "transformer.onnx")
    assert [*found] == ["default", "middle"]
    assert found["default"] != found["middle"]


def test_two_scenes_become_figures_and_tables(choosing, work, tmp_path):
    assert choosing.main(["--scenes", "2", "--only", "built", "--work", str(work), "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "results" / "choosing.json").read_text())
    (by_layer,) = report["subjects"].values()
    assert [found["layer"] for found in by_layer.values()] == [[64, 12, 12], [48, 24, 24]]
    for found in by_layer.values():
        assert found["all"]["n"] == 2
        assert found["small"]["n"] <= 2
        for means in found["all"]["methods"].values():
            assert all(0 <= means[name] <= 1 for name in choosing.SHOWN)
    readme = (tmp_path / "README.md").read_text()
    assert f"| Fusion-CAM | {by_layer['default']['all']['methods']['fusion_cam']['drop']:.3f} |" in readme


def test_the_tables_of_the_readme_are_those_of_the_results(choosing):
    report = json.loads((choosing.HERE / "results" / "choosing.json").read_text())
    assert choosing.table(report) in (choosing.HERE / "README.md").read_text()
