"""What `evaluate` prints: figures that fit, what they rest on, and what went wrong, each kind once."""

import io
import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from fusioncam.runtime.commands import console
from fusioncam.runtime.commands.evaluation_output import print_summary
from fusioncam.runtime.evaluation.evaluator import EvaluationConfig
from fusioncam.runtime.evaluation.metrics.catalogue import METRICS
from fusioncam.runtime.evaluation.report.summary import summarise
from fusioncam.runtime.evaluation.run import write_results

METHODS = ("fusion_cam", "grad_cam")


def row(n, accepted=(), class_index=3, **figures):
    metrics = {"drop": 0.1 * n, "insertion": 0.5, "deletion": 0.2, **figures}
    found = {"metrics": metrics, "curves": {}, "flags": []}
    return {
        "image": f"{n}.png", "size": [4, 4], "class_index": class_index, "label": None, "probability": 0.5,
        "accepted": list(accepted), "correct": class_index in accepted if accepted else None, "problems": [],
        "passes": {"run": 1, "channels": 1, "missing": 0}, "seconds": 1.0, "methods": dict.fromkeys(METHODS, found),
    }  # fmt: skip


@pytest.fixture
def printed(monkeypatch):
    """What is printed on a terminal so many characters wide; 0 for none."""

    def show(rows, width):
        out = io.StringIO()
        terminal = Console(
            file=out, width=width or None, force_terminal=bool(width), highlight=False, color_system=None
        )
        monkeypatch.setattr(console, "out", terminal)
        print_summary(summarise(rows, METHODS, METRICS), Path("report.html"))
        return out.getvalue()

    return show


def test_intervals_are_left_out_where_they_do_not_fit(printed):
    rows = [row(n) for n in range(1, 5)]
    wide, narrow = printed(rows, 200), printed(rows, 72)
    assert "0.250* (0." in wide
    assert "0.250*" in narrow
    assert "(0." not in narrow
    assert max(map(len, narrow.splitlines())) <= 72


def test_figures_that_rest_on_fewer_photos_say_so(printed):
    rows = [row(1, (3,), pointing=1.0), row(2, (4,)), row(3, (3,), pointing=0.0)]
    said = printed(rows, 200)
    assert "top class right: 2 of 3 annotated photos" in said
    assert "Pointing game: on 2 of 3 photos" in said


def test_alike_failures_take_one_line(printed, capsys):
    rows = [{"image": f"{n}.png", "error": "it is damaged"} for n in range(9)]
    printed([row(1), *rows], 0)
    assert "0.png and 8 more: it is damaged" in " ".join(capsys.readouterr().err.split())


class Kept:
    def __init__(self, folder):
        self.folder = folder

    def picture(self, name):
        return None


class Notes:
    problems, sha256 = (), None


@pytest.mark.parametrize(
    ("accepted", "hint"),
    [
        ((3,), None),
        ((2,), "would be on 6 if the numbers of classes were larger by 1"),
        ((4,), "smaller by 1"),
        ((9,), None),
    ],
)
def test_classes_counted_from_elsewhere_are_noticed(accepted, hint, tmp_path):
    rows = [row(n, accepted) for n in range(1, 7)]
    problems = write_results(Kept(tmp_path), EvaluationConfig(Path("b"), METHODS, annotations=Notes()), rows, {})[
        "problems"
    ]
    assert [hint in p["text"] for p in problems] == ([True] if hint else [])


def test_annotations_without_effect_are_told(run, bundle, work, tmp_path):
    (tmp_path / "photos").mkdir()
    shutil.copy(work / "one.png", tmp_path / "photos" / "00.png")
    given = ("evaluate", bundle, tmp_path / "photos", "--methods", "grad_cam", "--metrics", "drop")
    _, _, err = run(*given, "-o", tmp_path / "plain", "--class-offset", "1")
    assert err == "note: --class-offset has no effect without --annotations\n"
    explained = json.loads((tmp_path / "plain" / "rows.jsonl").read_text())["class_index"]
    boxes = [[1, 1, 9, 9]]
    for n, (entry, why) in enumerate(
        (
            ({"file": "gone.png", "boxes": boxes}, "they are for none of these photos"),
            ({"file": "00.png", "accept_classes": [explained]}, "they name classes, but no places"),
            ({"file": "00.png", "accept_classes": [(explained + 1) % 4], "boxes": boxes}, "no explained class is on"),
        )
    ):
        (tmp_path / "notes.json").write_text(json.dumps([entry]))
        _, _, err = run(*given, "-o", tmp_path / f"{n}", "--annotations", tmp_path / "notes.json")
        assert f"the annotations have no effect on pointing and energy: {why}" in err
