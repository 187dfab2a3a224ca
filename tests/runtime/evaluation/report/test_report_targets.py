"""The summary and the report of rows of targets, several of a photo."""

import pytest

from fusioncam.runtime.evaluation.metrics.catalogue import METRICS
from fusioncam.runtime.evaluation.report.charts import AREA, charts
from fusioncam.runtime.evaluation.report.page import report_html
from fusioncam.runtime.evaluation.report.summary import summarise


def of_target(image, title, drop, curve):
    found = {"metrics": {"drop": drop}, "curves": {"insertion": curve}, "flags": ["blank_map"]}
    facts = {"image": image, "title": title, "target": title, "problems": ["its box is empty"]}
    return {**facts, "methods": {"grad_cam": found}}


def test_a_photo_counts_once_by_the_mean_over_its_targets():
    rows = [
        of_target("a", "road", 0.2, [0, 1]),
        of_target("a", "sky", 0.6, [1, 1]),
        of_target("b", "road", 0.8, [0, 0]),
        {"image": "c", "error": "damaged"},
    ]
    summary = summarise(rows, ["grad_cam"], METRICS, {"targets_explained": "default targets"})
    of_method = summary["methods"]["grad_cam"]
    assert summary["photos"] == {"all": 3, "evaluated": 2, "failed": 1, "annotated": 0, "correct": 0}
    assert (of_method["metrics"]["drop"]["mean"], of_method["metrics"]["drop"]["n"]) == (pytest.approx(0.6), 2)
    assert of_method["flags"] == {"blank_map": 2}
    assert (of_method["curves"]["insertion"]["mean"][0], of_method["curves"]["insertion"]["n"]) == (0.25, 2)
    assert [problem["image"] for problem in summary["problems"]] == ["a", "b"]
    found = {
        target["title"]: (target["photos"], target["methods"]["grad_cam"]["drop"]) for target in summary["targets"]
    }
    assert found == {"road": (2, pytest.approx(0.5)), "sky": (1, 0.6)}
    page = report_html(summary, rows)
    assert "By target" in page
    assert ">road</th>" in page
    assert ">sky</th>" not in page  # one photo has no mean


def test_curves_below_zero_get_an_axis_that_holds_them():
    rows = [of_target("a", "value 0", 0.5, [0.0, -0.7, 0.9])]
    summary = summarise(rows, ["grad_cam"], METRICS)
    (chart,) = charts(summary["methods"])
    assert chart.floor <= -0.7
    assert chart.ceiling >= 0.9
    heights = [float(point.split()[1]) for point in chart.lines[0].path.split("L")]
    assert AREA.top <= min(heights) < max(heights) <= AREA.height - AREA.bottom
    (sound,) = charts(summarise([of_target("a", "x", 0.5, [0.0, 0.9])], ["grad_cam"], METRICS)["methods"])
    assert sound.floor == 0
