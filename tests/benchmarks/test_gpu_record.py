"""What stages find, how it is judged and kept, and what is printed of it."""

import json

import numpy as np
import pytest


@pytest.fixture
def record(part):
    return part("record").Record()


def test_a_check_is_judged_by_its_limit(record):
    assert record.check("at the limit", 1.0, 1.0)
    assert not record.check("beyond", 1.1, 1.0)
    assert not record.check("unknown", float("nan"), 1.0)
    assert record.check("enough", 0.999, 0.999, at_least=True)
    assert not record.check("too little", 0.9, 0.999, at_least=True)
    assert not record.check("unknown", float("nan"), 0.999, at_least=True)
    assert [c["ok"] for c in record.checks] == [True, False, False, True, False, False]


def test_a_crash_keeps_what_was_found(part):
    def work(record):
        record.check("first", 0, 1)
        raise RuntimeError("an illegal address was met\nand more")

    found = part("record").guarded(work)
    assert (found["status"], found["reason"]) == ("crashed", "RuntimeError: an illegal address was met")
    assert [c["what"] for c in found["checks"]] == ["first"]
    assert any("in work" in line for line in found["traceback"])
    assert not part("record").passed({"one": found})


def test_a_missing_package_is_no_crash(part):
    def work(record):
        import no_such_package  # noqa: F401

    found = part("record").guarded(work)
    assert found["status"] == "not run"
    assert "no_such_package" in found["reason"]
    assert part("record").passed({"one": found})


def test_one_failed_check_fails_all(part):
    good = part("record").guarded(lambda record: record.check("a", 0, 1))
    bad = part("record").guarded(lambda record: record.check("a", 2, 1))
    missed = part("record").guarded(lambda record: record.target("a", 2, 1))
    assert part("record").passed({"one": good, "two": missed})
    assert not part("record").passed({"one": good, "two": bad})
    assert not part("record").passed({"one": {**good, "status": "stopped"}})
    assert (missed["targets"][0]["met"], missed["status"]) == (False, "done")


def test_only_lack_of_memory_may_stop_something(record):
    record.failed("chunk 512", RuntimeError("CUDA out of memory. Tried to allocate"))
    record.failed("chunk 256", RuntimeError("the GPU cannot give it: CUDA_ERROR_OUT_OF_MEMORY"))
    assert ([o["what"] for o in record.left_out], record.checks) == (["chunk 512", "chunk 256"], [])
    record.failed("chunk 64", RuntimeError("an illegal memory access was encountered\nand more"))
    (check,) = record.checks
    assert (check["what"], check["ok"]) == ("chunk 64: it runs", False)
    assert check["reason"] == "RuntimeError: an illegal memory access was encountered"


def test_the_same_reason_is_told_once(record):
    for _ in range(2):
        record.leave_out("a backend", ImportError("no module"))
    assert record.left_out == [{"what": "a backend", "why": "ImportError: no module"}]


def test_the_file_is_json_whatever_it_holds(part, tmp_path):
    target = tmp_path / "new" / "r.json"
    part("record").write({"a": float("nan"), "b": [float("inf"), (1, 2.5)], "c": {"d": None, "e": True}}, target)
    text = target.read_text()
    assert json.loads(text) == {"a": "nan", "b": ["inf", [1, 2.5]], "c": {"d": None, "e": True}}
    with pytest.raises(TypeError):
        part("record").write({"a": object()}, target)
    assert target.read_text() == text, "a report that cannot be written must not destroy the last one"


@pytest.mark.parametrize("count", [1, 2, 7, 20, 101])
def test_spread(part, count):
    values = list(np.random.default_rng(count).random(count))
    found = part("record").spread(values)
    assert found["count"] == count
    for key, q in {"p50": 50, "p95": 95, "min": 0, "max": 100}.items():
        assert found[key] == pytest.approx(np.percentile(values, q))


def test_what_is_printed(part, record, tmp_path):
    record.check("mask by one", 2e-7, 1e-6, kernel="mask")
    record.check("mask by other", 3e-7, 1e-6, kernel="mask")
    record.check("maps: fusion_cam", 0.5, 2e-3)
    record.target("share", 0.6, 0.7, at_least=True)
    record.target("share too", 0.8, 0.7, at_least=True)
    record.leave_out("a backend", "no wheel")
    record.check("resnet, fp32, by torch: grad_cam, largest difference", 1e-6, 2e-3, pixels=9)
    record.check("resnet, fp32, by torch: score_cam, largest difference", 2e-6, 2e-3, pixels=9)
    record.failed("a chunk", RuntimeError("an illegal address was met"))
    record.check("maps: score_cam", float("nan"), 2e-3)
    part("record").write(part("record").guarded(lambda r: vars(r).update(vars(record))), tmp_path / "r.json")
    stage = json.loads((tmp_path / "r.json").read_text())  # as from a process of its own: NaN is text there
    text = "\n".join(part("table").lines("maps", stage))
    assert "4 of 7 checks passed" in text
    assert "FAILED a chunk: it runs: RuntimeError: an illegal address was met" in text
    assert "FAILED maps: score_cam: nan, limit 0.002" in text
    assert "FAILED maps: fusion_cam: 0.5, limit 0.002" in text
    assert "resnet, fp32, by torch, largest difference: grad_cam 1e-06, score_cam 2e-06" in text
    assert "worst error 3e-07 of 1e-06" in text
    assert "not met: share: 0.600, hoped for 0.7" in text
    assert "met: 1 of 2 targets" in text
    assert "left out a backend: no wheel" in text
