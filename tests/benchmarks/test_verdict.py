"""The benchmark of verdicts in miniature: a few drawn scenes, its counts and its table."""

import json

import numpy as np
import pytest

from fusioncam.runtime.engine import ExplainRequest


@pytest.fixture(scope="module")
def verdict(part):
    return part("verdict")


@pytest.fixture(scope="module")
def report(verdict, tmp_path_factory):
    folder = tmp_path_factory.mktemp("verdict")
    arguments = ["--scenes", "3", "--shuffles", "1", "--work", str(folder / "work"), "--out", str(folder / "out")]
    assert verdict.main(arguments) == 0
    return json.loads((folder / "out" / "results" / "verdict.json").read_text()), folder / "out" / "README.md"


def test_every_map_is_counted_once(report):
    (found,) = report[0]["models"]
    assert (found["pictures"], found["shuffles"], found["fitted"]) == (3, 1, True)

    def number(kind):
        return sum(sum(words.values()) for k, words in found["counts"].items() if k.startswith(kind))

    assert number("top class") == number("third class") == number("shuffled weights") == 3 * 3
    assert number("shuffled last layer") == 3 * 3
    assert 0 < number("off the object") <= 3 * 4
    assert report[0]["limits"]["supported"] == 0.1


def test_the_table_has_a_row_for_the_model_and_each_half(report):
    text = report[1].read_text()
    rows = [line for line in text.splitlines() if line.startswith(("| shapes", "| **all"))]
    assert len(rows) == 3
    assert rows[0].split("|")[2].strip() == "9"
    assert rows[0].split("|")[2:] == rows[1].split("|")[2:]
    assert "## On a CPU" in text


def test_the_judge_of_the_benchmark_is_that_of_the_engine(verdict, tmp_path):
    """The same map gets the same word, by a trial outside of the engine."""
    verdict.export_model(verdict.MODEL, tmp_path / "b.fcam")
    explainer = verdict.Explainer(tmp_path / "b.fcam")
    for seed in range(3):
        x = verdict.as_input(verdict.draw_scene(seed).image, explainer.manifest.preprocessing)[1]
        request = ExplainRequest(x, verify=True)
        ((e,),) = explainer.pipeline.run([explainer.pipeline.task(request)], request.methods, verify=True)
        task = verdict.judged(explainer, x, e, {"own": e.maps["fusion_cam"]})
        ((words),) = explainer.pipeline.run([task], request.methods, verify=True)
        assert words == {"own": e.verdict.name}


def test_places_by_the_region(verdict):
    region = np.zeros((8, 8), bool)
    region[:4, :4] = True
    on = np.where(region, 1, 0.1).astype(np.float32)
    assert verdict.is_on(on, region)
    assert not verdict.is_off(on, region)
    assert verdict.is_off(on[::-1], region)
    assert not verdict.is_on(on[::-1], region)
    assert [verdict.place_of(m, region, True) for m in (on, on[::-1])] == ["on the object", "off the object"]
    assert [verdict.place_of(on, None, known) for known in (True, False)] == ["class not there", "place unknown"]
    wide = np.ones((8, 8), np.float32)
    assert not verdict.is_on(wide, region)
    assert not verdict.is_off(wide, region)


def test_classes_by_rank(verdict):
    assert verdict.by_rank(np.array([0.1, 0.4, 0.2, 0.3]), {"top": 0, "third": 2}) == [1, 2]
