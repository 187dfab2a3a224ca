"""The summary, the table and the report, of sound and of nasty rows."""

import csv
import importlib.util
import io
import itertools
import json
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from fusioncam.errors import UsageError
from fusioncam.runtime.evaluation.annotations import Problem
from fusioncam.runtime.evaluation.metrics.catalogue import METRICS
from fusioncam.runtime.evaluation.report.gallery import LIMIT
from fusioncam.runtime.evaluation.report.page import report_html
from fusioncam.runtime.evaluation.report.summary import POINTS, summarise
from fusioncam.runtime.evaluation.report.table import table_bytes
from fusioncam.runtime.evaluation.store.store import thumbnail
from fusioncam.runtime.picture import CAPTION, DEFAULT_COLORMAP, color_table

NASTY = '<script>alert("1")</script>\'&\udce9\x07.jpg'
METHODS = ["fusion_cam", "grad_cam"]
VOID = {"meta", "img", "br"}


def row(image, methods=METHODS, picture=None, **figures):
    """A row in which the n-th method has the n-th of each list of figures."""
    found = {
        method: {
            "metrics": {name: values[n] for name, values in figures.items()},
            "curves": {
                "insertion": [0.0, figures.get("insertion", [0.5] * 99)[n] or 0.0, 1.0],
                "deletion": [1.0, 0.5, 0.0],
            },
            "flags": [],
            **({"picture": picture} if picture else {}),
        }
        for n, method in enumerate(methods)
    }
    facts = {"image": image, "size": [30, 40], "class_index": 3, "label": "cat", "probability": 0.75, "correct": True}
    return {
        **facts,
        "accepted": [3, 4],
        "passes": {"run": 90, "channels": 100},
        "seconds": 1.5,
        "problems": [],
        "methods": found,
    }


def many(count, methods, seed=0):
    rng = np.random.default_rng(seed)
    return [row(f"{i}.jpg", methods, **{m: rng.random(len(methods)).tolist() for m in METRICS}) for i in range(count)]


class Page(HTMLParser):
    """Checks that every element is closed where it should be, and collects what tests look at."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.words = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.words).replace("\N{NON-BREAKING HYPHEN}", "-"))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def page(rows, methods=METHODS, pictures=lambda _: None, **options):
    return Page(report_html(summarise(rows, methods, METRICS, **options), rows, pictures))


def test_means_and_paired_differences():
    rows = [
        row(f"{i}.jpg", insertion=[0.5 + i / 100, 0.3 + i / 100], drop=[0.2, 0.2], pointing=[1, i % 2])
        for i in range(8)
    ]
    rows[7]["methods"]["grad_cam"]["metrics"]["insertion"] = None
    found = summarise(rows, METHODS, METRICS, {"model": "m"})
    assert json.loads(json.dumps(found)) == found
    assert [*found["metrics"]] == ["drop", "insertion", "pointing"]  # those that were measured, in their order
    assert found["metrics"]["insertion"]["best"] == ["fusion_cam"]
    assert found["metrics"]["drop"]["best"] == METHODS
    fusion, grad = (found["methods"][m]["metrics"]["insertion"] for m in METHODS)
    assert fusion["mean"] == pytest.approx(0.535)
    assert fusion["low"] < fusion["mean"] < fusion["high"]
    assert (fusion["n"], fusion["left_out"], grad["n"], grad["left_out"]) == (8, 0, 7, 1)
    difference = found["methods"]["grad_cam"]["against_first"]["insertion"]
    assert difference["difference"] == pytest.approx(-0.2)
    assert (difference["n"], difference["won"], difference["settled"]) == (7, 0, True)
    assert found["methods"]["fusion_cam"]["against_first"] == {}
    assert found["photos"] == {"all": 8, "evaluated": 8, "failed": 0, "annotated": 8, "correct": 8}
    assert found["about"] == {"model": "m"}


def test_mean_curves():
    rows = [row("a.jpg", insertion=[0.2, 0.4]), row("b.jpg", insertion=[0.4, 0.4])]
    rows[0]["methods"]["grad_cam"]["curves"]["insertion"] = [0.0, None, 1.0]
    curves = summarise(rows, METHODS, METRICS)["methods"]
    fusion, grad = (curves[m]["curves"]["insertion"] for m in METHODS)
    assert fusion["x"] == pytest.approx(np.linspace(0, 1, POINTS).tolist())
    assert fusion["mean"][POINTS // 2] == pytest.approx(0.3)
    assert (fusion["mean"][0], fusion["mean"][-1], fusion["n"]) == (0, 1, 2)
    assert (fusion["low"][POINTS // 2], fusion["high"][POINTS // 2]) == pytest.approx((0.2, 0.4))
    assert (grad["mean"][POINTS // 2], grad["n"], grad["low"][0]) == (pytest.approx(0.4), 1, None)


def test_the_report_says_what_was_found():
    rows = [row(f"{i}.jpg", insertion=[0.5 + i / 100, 0.3], deletion=[0.2, 0.1], drop=[i, 3 - i]) for i in range(4)]
    rows[0]["methods"]["grad_cam"]["flags"] = ["blank_map"]
    rows[1]["problems"] = ["object 1 of 1 is empty: it was left out"]
    rows.append({"image": "broken.jpg", "error": "it is no picture"})
    found = page(
        rows,
        about={"model": "net.onnx", "versions": {"numpy": "2.0"}, "methods": METHODS, "note": None},
        problems=[Problem("gone.jpg", "annotated, but not among the photos"), Problem(None, "class 'dog'")],
    )
    for words in (
        "Which maps to trust: net.onnx",
        "4 of 5 photos, 2 methods. Best mean of 3 figures: Fusion-CAM in 2, Grad-CAM in 2.",
        "Of 3 differences between Fusion-CAM and the others, settled in its favour: 1; against it: 1; "
        "within chance: 1.",
        "Of so few photos the intervals tend to be too narrow.",
        "worse \N{MINUS SIGN}0.215",
        "better \N{MINUS SIGN}0.100",
        "0.515 best",
        "numpy 2.0",
        "it is no picture1: broken.jpg",
        "object 1 of 1 is empty: it was left out1: 1.jpg",
        "annotated, but not among the photos1: gone.jpg",
        "Grad-CAM: the map is zero everywhere",
        "4 of 4 annotated",
    ):
        assert words in found.text, words


def test_the_page_stands_alone_and_can_be_read_aloud():
    data = thumbnail(np.zeros((20, 20, 3), np.uint8))
    found = page([row(f"{i}.jpg", picture="p", insertion=[0.1 * i, 0.2]) for i in range(9)], pictures=lambda _: data)
    assert found.all("html")[0]["lang"] == "en"
    assert all(th["scope"] in ("col", "row") for th in found.all("th"))
    assert len(found.all("caption")) == len(found.all("table")) == 2
    assert len(found.all("img")) == 4 * 4
    assert all(img["alt"] and img["src"].startswith("data:image/webp;base64,") for img in found.all("img"))
    charts = [svg for svg in found.all("svg") if svg.get("role") == "img"]
    assert len(charts) == 2
    assert all(re.search(r"Fusion.CAM from \d", svg["aria-label"]) for svg in charts)
    assert not found.all("script")
    assert not found.all("link")
    assert {a["href"][:18] for a in found.all("a")} == {"https://arxiv.org/"}
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_nothing_from_outside_becomes_markup():
    nasty = row(NASTY, picture="p", insertion=[0.1, 0.2])
    nasty |= {"label": NASTY, "problems": [NASTY]}
    nasty["methods"]["fusion_cam"]["flags"] = [NASTY]
    rows = [nasty, row('"onload="x', picture="p", insertion=[1, 2]), {"image": NASTY, "error": NASTY}]
    data = thumbnail(np.zeros((20, 20, 3), np.uint8))
    found = page(
        rows, pictures=lambda _: data, about={NASTY: NASTY, "x": {NASTY: [NASTY]}}, problems=[Problem(NASTY, NASTY)]
    )
    assert not found.all("script")
    assert not any(name.startswith("on") for _, attributes in found.elements for name in attributes)
    assert '<script>alert("1")</script>\'&\\udce9\ufffd.jpg' in found.text
    assert any(NASTY[:20] in img["alt"] for img in found.all("img"))


def test_a_method_with_a_nasty_name():
    method = '<b>"x'
    found = page([row("a", [method], insertion=[0.5]), row("b", [method], insertion=[0.6])], [method])
    assert len(found.all("b")) == 0
    assert method in found.text


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{"image": "a", "error": "no"}],
        [row("a.jpg")],
        [row("a.jpg", insertion=[None, None], drop=[None, 0.5])],
        [{"image": "a", "methods": {}}],
        [{"image": "a", "methods": {"grad_cam": None}}, {"image": "b"}],
        [row("a.jpg", insertion=[0.0, 0.0])],
    ],
    ids=["no rows", "all failed", "no figures", "no values", "no methods", "hardly rows", "one photo"],
)
@pytest.mark.parametrize("methods", [METHODS, METHODS[:1], []])
def test_there_is_always_a_report(rows, methods):
    found = page(rows, methods)
    assert "Which maps to trust" in found.text
    assert table_bytes(rows, methods, [*METRICS]).startswith(b"image,error,")


def test_ten_methods_and_a_dozen():
    for count in (10, 12):
        methods = [f"method_{n}" for n in range(count)]
        found = page(many(5, methods), methods)
        looks = {
            (p["class"], p.get("stroke-dasharray")) for p in found.all("path") if re.fullmatch(r"line s\d", p["class"])
        }
        assert len(looks) == count


def test_thousands_of_photos_and_a_file_that_stays_small():
    methods = METHODS
    rows = many(5000, methods)
    for n, one in enumerate(rows):
        one["problems"] = [f"problem {n}", "common"]
        for m in methods:
            one["methods"][m]["picture"] = "p"
    rows += [{"image": f"bad{n}.jpg", "error": "damaged"} for n in range(1000)]
    data = b"x" * 400_000  # larger than any thumbnail
    html = report_html(summarise(rows, methods, METRICS), rows, lambda _: data)
    assert len(html) < LIMIT + 500_000
    found = Page(html)
    assert len(found.all("img")) == LIMIT * 3 // 4 // len(data)
    assert "5000: 0.jpg" in found.text
    assert "and 4951 other things" in found.text
    assert "and 950 more" in found.text


def test_the_table():
    rows = [row(NASTY, insertion=[0.5, None]), {"image": 'bad,\n".jpg', "error": "no"}]
    rows[0]["problems"] = ["one", "two"]
    rows[0]["methods"]["grad_cam"]["flags"] = ["blank_map", "nan_map"]
    text = table_bytes(rows, METHODS, ["insertion", "drop"]).decode("utf-8")
    first, second, bad = csv.DictReader(io.StringIO(text, newline=""))
    assert first["image"] == second["image"] == NASTY.encode("utf-8", "backslashreplace").decode()
    assert (first["method"], first["insertion"], first["drop"], first["flags"]) == ("fusion_cam", "0.5", "", "")
    assert (second["method"], second["insertion"], second["flags"]) == ("grad_cam", "", "blank_map nan_map")
    assert (first["height"], first["width"], first["accepted"], first["passes"]) == ("30", "40", "3 4", "90")
    assert first["problems"] == "one; two"
    assert (bad["image"], bad["error"], bad["method"]) == ('bad,\n".jpg', "no", "")


@pytest.mark.parametrize("name", ["=1+1.jpg", "+1.jpg", "-1.jpg", "@SUM(A1).jpg", "\t=1.jpg", "\r=1.jpg"])
def test_texts_that_a_spreadsheet_would_calculate(name):
    rows = [{**row(name, insertion=[-0.5, 0.5]), "label": name, "class_index": -1}, {"image": "b", "error": name}]
    first, _, bad = csv.DictReader(io.StringIO(table_bytes(rows, METHODS, ["insertion"]).decode(), newline=""))
    assert first["image"] == first["label"] == bad["error"] == "'" + name
    assert (first["insertion"], first["class_index"], first["method"]) == ("-0.5", "-1", "fusion_cam")  # figures stay


def test_parquet():
    rows = [row(NASTY, insertion=[0.5, None]), {"image": "bad", "error": "no"}]
    if importlib.util.find_spec("pyarrow") is None:
        with pytest.raises(UsageError, match=r"pip install"):
            table_bytes(rows, METHODS, ["insertion"], "parquet")
        pytest.skip("pyarrow is not installed")
    from pyarrow import parquet

    found = parquet.read_table(io.BytesIO(table_bytes(rows, METHODS, ["insertion"], "parquet"))).to_pylist()
    assert [r["insertion"] for r in found] == [0.5, None, None]
    assert [r["method"] for r in found] == ["fusion_cam", "grad_cam", None]
    assert (found[0]["correct"], found[0]["height"], found[2]["error"]) == (True, 30, "no")


def test_the_gallery_shows_each_picture_once_per_method():
    rows = [row(f"{i}.jpg", picture=f"{i}", insertion=[i / 10, 1 - i / 10]) for i in range(5)]
    shades = {str(i): thumbnail(np.full((8, 8, 3), 40 * i, np.uint8)) for i in range(5)}
    found = page(rows, pictures=shades.get)
    alts = [img["alt"].split(",")[0] for img in found.all("img")]
    assert alts == ["4.jpg", "3.jpg", "2.jpg", "0.jpg", "1.jpg", "0.jpg", "1.jpg", "2.jpg", "4.jpg", "3.jpg"]
    assert cv2.imdecode(np.frombuffer(shades["4"], np.uint8), 1) is not None
    bar = next(div for div in found.all("div") if "gradient" in div.get("style", ""))
    assert all("rgb({} {} {})".format(*color_table(DEFAULT_COLORMAP)[i]) in bar["style"] for i in (0, 120, 255))
    assert CAPTION in found.text
