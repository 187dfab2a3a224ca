"""`benchmarks/environments.py` on environments that a stand-in makes."""

import json

import numpy as np
import pytest


@pytest.fixture
def environments(part):
    return part("environments")


@pytest.fixture
def make(environments, monkeypatch, tmp_path):
    """Makes an environment whose packages are `before`, and after the install of fusioncam `after`."""

    def make(before, after, clash=""):
        listed = iter([before, after] if before else [after])

        def run(*command):
            words = list(map(str, command))
            if words[-1] == "check" and clash:
                raise environments.FaultError(clash)
            if words[-1] == "--format=json":
                return json.dumps([{"name": name, "version": version} for name, version in next(listed).items()])
            if "demo" in words:
                (tmp_path / "demo").mkdir()
                (tmp_path / "demo" / "scene.png").touch()
            if "explain" in words:
                (tmp_path / "maps").mkdir()
                np.savez(tmp_path / "maps" / "scene.npz", fusion_cam=np.eye(2), label=np.zeros(3))
            return "said"

        monkeypatch.setattr(environments, "run", run)
        environment = environments.Environment(before=tuple(before))
        return environments.make(environment, tmp_path / "fusioncam.whl", tmp_path, tmp_path / "scene.png")

    return make


def test_what_an_environment_holds(make):
    kept = {"onnxruntime-openvino": "1.24.1", "opencv-python": "4.12.0"}
    figures = make(kept, {**kept, "rich": "15.0", "fusioncam": "0.1.0"})
    assert (figures["packages"], figures["shown"]) == (4, kept)
    assert list(figures["maps"]) == ["fusion_cam"]


@pytest.mark.parametrize("after", [{"onnxruntime-gpu": "1.31"}, {"onnxruntime": "1.31"}, {}])
def test_an_install_that_touches_a_teams_packages_is_a_fault(environments, make, after):
    with pytest.raises(environments.FaultError, match=r"the install changed onnxruntime-gpu 1\.30"):
        make({"onnxruntime-gpu": "1.30"}, after)


def test_requirements_that_are_not_met_are_a_fault(environments, make):
    with pytest.raises(environments.FaultError, match="needs numpy"):
        make({}, {"numpy": "1.26"}, clash="onnx needs numpy 2")


def test_the_table_is_that_of_the_figures(environments):
    found = json.loads(environments.RESULTS.read_text())["environments"]
    assert list(found) == list(environments.ENVIRONMENTS)
    assert environments.table(found) in environments.README.read_text()
