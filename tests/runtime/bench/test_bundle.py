"""`fusioncam bench` on small bundles: what it finds, how it prints it, and what it refuses."""

import json

import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.runtime.bench import bundle as bench
from fusioncam.runtime.bench.comparison import BARE, Drawn, Picture
from fusioncam.runtime.bench.memory import Memory
from fusioncam.runtime.bench.passes import BarePasses, ReferenceCheck


@pytest.fixture
def no_processes(monkeypatch):
    """Memory is measured in processes of their own, which take a second each; here they only note what was asked."""
    asked = []
    monkeypatch.setattr(bench, "in_fresh_process", lambda command, what: asked.append(what) or Memory(1000, 3000))
    return asked


@pytest.fixture
def bare(tiny):
    return BarePasses(tiny.bundle, Explainer(tiny.bundle).manifest, 4, threads=1)


def test_plain_maps_are_those_of_the_method(bare, tiny, oracle, pictures):
    for x in pictures:
        c = int(bare.logits([x])[0].argmax())
        wanted = oracle(tiny.bundle).maps(x, c, *tiny.network.evidence(x, c))
        found = bare.reference_maps(x, c)
        assert found.keys() == wanted.keys()
        for method, m in found.items():
            np.testing.assert_allclose(m, wanted[method], atol=2e-4, err_msg=method)


@pytest.mark.parametrize(("count", "sizes"), [(11, [4, 4, 1, 1, 1]), (10, [4, 4, 1, 1]), (2, [1, 1]), (1, [1])])
def test_bare_passes_have_the_chunks_of_an_explanation(bare, monkeypatch, pictures, count, sizes):
    assert bare.chunks(count) == sizes
    seen = []
    binding = bare._binding
    monkeypatch.setattr(bare, "_binding", lambda x, size: seen.append(size) or binding(x, size))
    bare.run(pictures[0], count)
    assert seen == sizes


def test_maps_of_another_picture_are_wrong(bare, tiny, pictures):
    one, two = (Picture("p", x, 1) for x in pictures[:2])
    found = Explainer(tiny.bundle).explain(one.x, 1)
    drawn = Drawn(found.maps, found.passes.run, found.flags)
    assert ReferenceCheck(bare)(one, drawn) is None
    assert "with the map of the reference" in ReferenceCheck(bare)(two, drawn)
    judge = ReferenceCheck(bare)
    assert judge(one, drawn) is None
    assert judge(two, drawn) is None, "only the first picture is checked"


def test_a_bundle_is_measured(tiny, pictures, no_processes):
    done = []
    config = bench.BenchConfig(chunk=4, threads=1)
    report = bench.bench_bundle(
        tiny.bundle, pictures[:2], ["exact"], 3, config, lambda n, every: done.append((n, every))
    )
    assert (report.chunk, report.rounds, report.made_up) == (4, 3, False)
    bare, exact = report.rows
    assert (bare.name, exact.name, exact.wrong) == (BARE, "exact", None)
    assert bare.passes == exact.passes == [Explainer(tiny.bundle).explain(x).passes.run for x in pictures[:2]]
    assert bare.seconds.count == exact.seconds.count == 6
    assert set(exact.differences) == {"fusion_cam", "grad_cam", "score_cam"}
    assert exact.memory == (1000, 3000)
    assert [a["budget"] for a in no_processes] == [None, "exact"]
    counts = [n for n, _ in done]
    assert counts == sorted(counts)
    assert done[-1][0] == done[-1][1], "the bar ends full"


def test_without_pictures_it_draws_some(tiny, no_processes):
    report = bench.bench_bundle(tiny.bundle, [], rounds=1, config=bench.BenchConfig(threads=1))
    assert report.made_up
    assert len(report.pictures) == bench.SAMPLES
    assert {p.x.shape for p in report.pictures} == {(3, 24, 32)}


def test_memory_is_measured_in_another_process(tiny, pictures):
    picture = Picture("p", pictures[0], 0)
    for name in ("exact", BARE):
        found = bench.memory_of(tiny.bundle, name, picture, bench.BenchConfig(chunk=4, threads=1), 9)
        assert found.peak is None or found.peak > 10e6


def test_the_table(run, bundle, no_processes):
    status, out, err = run("bench", bundle, "one.png", "--budget", "exact", "--rounds", "2", "--chunk", "2")
    assert (status, err) == (0, "")
    head, columns, bare, exact, *notes = out.splitlines()
    assert head == "tiny.fcam: 1 picture, 2 rounds, chunk 2"
    assert columns.split() == ["passes", "p50", "p95", "x", "bare", "MB", "+MB", "corr.", "diff.", "drop", "%"]
    assert bare.startswith(BARE)
    assert exact.split()[0] == "exact"
    assert "1.0000" in exact
    assert "Average Drop" in notes[-1]
    assert all(len(line) <= 100 for line in out.splitlines())


def test_by_default_a_budget_stops_by_itself(run, bundle, no_processes):
    status, out, _ = run("bench", bundle, "one.png", "--rounds", "1", "--threads", "1", "--json")
    assert status == 0
    _bare, exact, auto = json.loads(out)["rows"]
    assert (exact["name"], auto["name"]) == ("exact", "auto")
    assert auto["passes"][0] <= exact["passes"][0]
    assert len(auto["missing"]) == 1
    assert [a["budget"] for a in no_processes] == [None, "exact", "auto"]


def test_the_result_as_json_and_as_a_file(run, bundle, tmp_path, no_processes):
    target = tmp_path / "new" / "result.json"
    status, out, _ = run(
        "bench", bundle, "--budget", "exact", "--rounds", "1", "--json", "-o", target, "--threads", "1"
    )
    assert status == 0
    found = json.loads(out)
    assert found == {**json.loads(target.read_text()), "date": found["date"]}
    assert [row["name"] for row in found["rows"]] == [BARE, "exact"]
    assert found["settings"]["threads"] == 1
    assert found["machine"]["cores"] > 0
    assert [p["name"] for p in found["pictures"]] == ["1", "2", "3"]


def test_a_wrong_map_fails_and_is_said(run, bundle, monkeypatch, no_processes):
    monkeypatch.setattr(ReferenceCheck, "__call__", lambda self, picture, drawn: "score_cam: off")
    status, out, _ = run("bench", bundle, "one.png", "--budget", "exact", "--rounds", "1")
    assert status == 1
    assert "exact is WRONG, and was not timed: score_cam: off" in out


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("--budget", "most"), 2, ["'most'", "exact"]),
        (("--budget", "exact,0"), 2, ["budget 0"]),
        (("--budget", ","), 2, ["budget"]),
        (("--rounds", "0"), 2, ["rounds", "1 to"]),
        (("--rounds", "many"), 2, ["--rounds"]),
        (("--chunk", "0"), 2, ["chunk"]),
        (("--threads", "-1"), 2, ["threads"]),
        (("--providers", "npu"), 2, ["npu"]),
        (("gone.png",), 1, ["gone.png"]),
        (("labels.txt",), 1, ["labels.txt", "not a picture"]),
        (("-o", "one.png/r.json"), 1, ["one.png"]),
        (("-o", "."), 1, ["folder"]),
    ],
)
def test_bad_usage_is_one_line_and_measures_nothing(
    run, bundle, only_line, listing, work, no_processes, arguments, status, words
):
    before = listing(work)
    given = arguments if "--budget" in arguments else (*arguments, "--budget", "exact")
    code, out, err = run("bench", bundle, *given)
    assert (code, out) == (status, "")
    assert all(word in only_line(err) for word in words), err
    assert listing(work) == before
    assert no_processes == []


def test_a_missing_bundle_is_one_line(run, only_line):
    status, _, err = run("bench", "gone.fcam", "--budget", "exact")
    assert status == 1
    assert "gone.fcam is no bundle" in only_line(err)
