"""The tables of the benchmark's README, from a result."""

import json
from pathlib import Path

import pytest


def row(name, **more):
    found = {"correlation": {"min": 0.99, "median": 0.9995}, "largest_difference": 0.03, "average_drop": 0.25}
    spread = {"p50": 1.5, "p95": 2.5, "min": 1.0, "max": 3.0, "count": 5}
    methods = {m: {**found, "correlations": [0.99, 0.9995]} for m in ("score_cam", "fusion_cam")}
    return {
        "name": name, "note": "", "wrong": None, "passes": [100, 90, 80], "missing": [], "seconds": spread,
        "times_bare": spread, "speedup": {**spread, "p50": 8.0, "min": 4.0}, "methods": methods,
        "memory": {"loaded": 100_000_000, "peak": 164_000_000, "added": 64_000_000}, **more,
    }  # fmt: skip


@pytest.fixture
def report():
    subject = {"subject": "resnet18", "weights": "random", "layer": [512, 7, 7], "size": [224, 224], "chunk": 8}
    bare = row("bare passes", methods={}, times_bare={"p50": 1.0})
    wrong = row("odd: Score-CAM", wrong="off", seconds=None, times_bare=None, speedup=None, memory=None, note="squares")
    ours = [bare, row("fusioncam exact"), row("fusioncam auto", passes=[10, 11, 12])]
    chunks = [
        {"subject": name, "what": "bare", "chunk": c, "per_pass": {"p50": 0.002 * c, "min": 0.001, "max": 1.0}}
        for name in ("a", "b")
        for c in (1, 8)
    ]
    figures = {
        "peers": [{**subject, "rows": [*ours, wrong]}],
        "budgets": [{**subject, "pictures": ["x", "y"], "rounds": 1, "rows": ours}],
        "chunks": chunks,
        "channels": [{"channels": k, "rows": [bare, row("fusioncam exact")]} for k in (64, 256)],
        "images": [{"images": n, "memory": {"added": n * 1_000_000}} for n in (1, 4)],
    }
    return {
        "date": "2026-05-04T01:02:03", "machine": {"processor": "P", "cores": 2},
        "settings": {"threads": 2, "rounds": 5}, "versions": {"numpy": "2"},
        "stages": {name: {"figures": f, "left_out": []} for name, f in figures.items()},
    }  # fmt: skip


@pytest.fixture
def template(part):
    return Path(part("cpu.readme").__file__).parents[1] / "README.md"


def test_every_section_has_a_place_in_the_readme(part, report, template):
    readme = part("cpu.readme")
    made = readme.sections(report)
    assert set(made) == {"machine", *readme.WRITERS}
    filled = readme.fill(template.read_text(), made)
    assert all(content in filled for content in made.values())
    assert readme.fill(filled, made) == filled, "filling twice changes nothing"


def test_the_prose_around_stays(part):
    fill = part("cpu.readme").fill
    text = "before\n<!-- begin a -->\nold\n<!-- end a -->\nbetween\n<!-- begin b -->\n<!-- end b -->\nafter\n"
    assert fill(text, {"a": r"new \1"}) == text.replace("old", r"new \1")
    assert fill(text, {}) == text
    with pytest.raises(ValueError, match="markers of 'c' 0 times"):
        fill(text, {"c": "new"})
    with pytest.raises(ValueError, match="markers of 'a' 2 times"):
        fill(text + text, {"a": "new"})


def test_side_by_side(part, report):
    text = part("cpu.readme").sections(report)["peers"]
    assert "**resnet18, random weights, layer 512 x 7 x 7**, chunk 8" in text
    assert "| fusioncam exact | 90 | 1.50 s | 2.50 s | 1.50 | 164 | 64 | 0.9900 | 0.0300 | 25.0 |" in text
    assert "| odd: Score-CAM | 90 | WRONG |  |  |" in text
    assert "WRONG, odd: Score-CAM: off" in text
    assert "| odd: Score-CAM | squares |" in text


def test_budgets_are_told_by_the_worst_picture_and_the_median(part, report):
    text = part("cpu.readme").sections(report)["budgets"]
    wanted = "| fusioncam auto | 11 | 1.50 s | 8.0 (4.0) | 0.9900 / 0.99950 | 0.9900 / 0.99950 | 25.0 |"
    assert wanted in text
    assert "bare passes" not in text


def test_what_grows_with_what(part, report):
    made = part("cpu.readme").sections(report)
    assert "| a, bare | 2.00 | 16.00 |" in made["chunks"]
    assert "| fusioncam exact | 1.50 s, 64 | 1.50 s, 64 |" in made["channels"]
    assert "| added MB | 1 | 4 |" in made["images"]


def test_what_was_left_out_is_named(part, report):
    report["stages"]["peers"]["left_out"] = [{"what": "captum: Grad-CAM", "why": "ImportError: gone"}]
    assert part("cpu.readme").sections(report)["peers"].endswith("\n- left out: captum: Grad-CAM: ImportError: gone")


def test_a_stage_that_was_not_run_leaves_its_table(part, report):
    del report["stages"]["budgets"]
    report["stages"]["chunks"]["figures"] = []
    assert {"budgets", "chunks"}.isdisjoint(part("cpu.readme").sections(report))


def test_plots(part, report, tmp_path):
    pytest.importorskip("matplotlib")
    part("cpu.plots").draw(report["stages"], tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        f"{name}.png" for name in ("peers", "budgets", "chunks", "channels")
    }


def test_the_readme_is_written_where_the_result_is(part, report, tmp_path, template, capsys):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "cpu.json").write_text(json.dumps(report))
    part("cpu.readme").update(tmp_path, template)
    written = (tmp_path / "README.md").read_text()
    assert "2026-05-04, P, 2 cores, 2 threads, 5 rounds" in written
    assert "## On a GPU" in written
    assert (tmp_path / "plots").is_dir() or "no plots" in capsys.readouterr().out
