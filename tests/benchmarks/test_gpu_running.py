"""The steps of `benchmarks/gpu.py`: the time they share, and the processes they run in."""

import json
import sys

import pytest


@pytest.fixture
def running(part, monkeypatch):
    """The module, with steps of our own."""
    steps, module = part("steps"), part("running")

    def use(*made):
        monkeypatch.setattr(steps, "STEPS", [steps.Step(name, name, least, 60, None) for name, least in made])
        return module

    return use


class Watch:
    """A clock by which steps move."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_each_step_gets_what_is_left_and_says_so_where_it_cannot_begin(part, running, tmp_path, capsys):
    watch, given = Watch(), []
    module = running(("first", 10), ("second", 50), ("third", 10), ("not asked for", 1))

    def do(step, seconds, keep):
        given.append((step.name, seconds))
        watch.now += 60
        return {"status": "done", "seconds": 60.0, **part("record").Record().found}

    report, clock = {}, part("steps").Clock(100 / 60, watch)
    assert module.run(report, tmp_path / "r.json", ["first", "second", "third"], clock, do)
    assert given == [("first", 60), ("third", 40)]
    assert report["stages"]["second"]["status"] == "not run"
    assert report["stages"]["second"]["reason"] == "40 s were left, and it needs 50"
    assert clock.left() == 0
    assert "== second: not run: 40 s were left" in capsys.readouterr().out
    assert json.loads((tmp_path / "r.json").read_text())["passed"] is True


@pytest.fixture
def apart(part, command, tmp_path, monkeypatch):
    """Runs a step in a process of its own, whose program is this text; gives what was found."""
    running, steps = part("running"), part("steps")

    def run(program, seconds=30, under=(), **more):
        path = tmp_path / "program.py"
        head = "import json, os, sys, time\nout = sys.argv[sys.argv.index('-o') + 1]\n"
        path.write_text(head + f"found = {part('record').Record().found | {'status': 'done'}}\n" + program)
        monkeypatch.setattr(running, "COMMAND", path)
        step = steps.Step("a step", "stage", 1, 60, None, under, **more)
        return running.apart(command.options(["--dry"]), tmp_path, step, seconds, lambda found: None)

    return run


WRITE = "open(out, 'w').write(json.dumps(found))\n"


def test_a_step_is_told_its_name_its_time_and_what_the_command_was_told(apart):
    found = apart("found['figures'] = [sys.argv[1:], os.environ['A']]\n" + WRITE, 30, environment={"A": "b"})
    told, environment = found["figures"]
    assert told[: told.index("--folder")] == [
        "--models", "residual", "mobile", "--chunks", "5", "--device", "0", "--dry", "--only", "a step"
    ]  # fmt: skip
    assert told[-1] == "0.500"
    assert environment == "b"
    assert found["status"] == "done"


def test_a_step_that_takes_too_long_is_stopped_and_keeps_what_it_found(apart):
    found = apart(
        "found |= {'figures': [1], 'status': 'stopped'}\n" + WRITE + "print('at it', flush=True)\ntime.sleep(60)", 3
    )
    assert (found["status"], found["reason"], found["figures"]) == ("stopped", "its 3 s were over", [1])
    assert found["log"] == ["at it"]


def test_a_step_whose_process_dies_is_a_crash_and_its_last_words_are_kept(apart):
    found = apart("print('a fault', flush=True)\nos.abort()")
    assert (found["status"], found["reason"], found["log"]) == ("crashed", "it ended with status -6", ["a fault"])
    assert found["checks"] == []


def test_a_program_that_watches_says_what_it_found_by_its_status(apart, part):
    watch = (sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:], check=True); sys.exit(86)")
    assert apart(WRITE, under=watch)["reason"] == "it ended with status 86"
    assert apart(WRITE, under=("no-such-program",))["reason"] == "no-such-program is not installed"
    assert not part("record").passed({"a step": apart(WRITE, under=watch)})


def test_a_dry_run_goes_through_processes(command, tmp_path, capsys):
    out = tmp_path / "r.json"
    assert command.main(["--dry", "--stages", "kernels", "-o", str(out)]) == 0
    stage = json.loads(out.read_text())["stages"]["kernels"]
    assert (stage["status"], all(c["ok"] for c in stage["checks"]), len(stage["checks"]) > 10) == ("done", True, True)
    assert "a dry run on the CPU: it tells nothing of a GPU" in capsys.readouterr().out


def test_every_step_can_begin_within_the_time(part, command):
    steps = part("steps")
    assert steps.STAGES == command.STAGES
    assert sum(step.least for step in steps.STEPS) < 60 * command.MINUTES
    assert all(step.least < step.most for step in steps.STEPS)
    assert len({step.name for step in steps.STEPS}) == len(steps.STEPS)


def test_models_are_made_where_a_stage_needs_them(part):
    steps = part("steps")
    assert [step.name for step in steps.chosen(["bandwidth", "kernels"])] == ["kernels", "bandwidth"]
    assert [step.name for step in steps.chosen(["engine"])] == ["models", "engine"]


@pytest.fixture
def bench(part, command, lab):
    return part("steps").Bench(command.options(["--dry"]), {}, {}, lab, None, part("steps").EFFORTS["dry"])


def test_without_torch_files_are_measured(part, bench, lab, monkeypatch):
    monkeypatch.setattr(lab, "made", lambda name: True)
    assert (bench.every, bench.networks, bench.subject) == (
        ["demo", "mobile", "residual"], ["residual", "mobile"], "residual"
    )  # fmt: skip
    monkeypatch.setattr(part("steps"), "find_spec", lambda name: None)
    assert (bench.every, bench.networks, bench.subject) == (["demo"], [], "demo")


def test_a_model_that_was_not_made_in_time_is_left_out(part, bench, lab, monkeypatch):
    steps, record, explained = part("steps"), part("record").Record(), []
    monkeypatch.setattr(lab, "made", lambda name: name != "residual")
    monkeypatch.setattr(part("maps"), "check", lambda record, lab, models, chunk: explained.extend(models))
    steps._maps(bench, record)
    assert explained == ["demo", "mobile"]
    assert record.left_out == [{"what": "maps of residual", "why": "its bundle was not made in time"}]
    assert bench.subject == "mobile"


def test_the_other_bundles_are_made_where_one_is_refused(part, bench, lab, monkeypatch):
    record, bundle = part("record").Record(), part("lab").Lab.bundle

    def refused(self, name, precision):
        if (name, precision) == ("mobile", "fp16"):
            raise RuntimeError("float16 is too narrow")
        return bundle(self, name, precision)

    monkeypatch.setattr(part("lab").Lab, "bundle", refused)
    part("steps").models(bench, record)
    assert [(c["what"], c["ok"]) for c in record.checks] == [("mobile, fp16: it runs", False)]
    assert [(f["model"], f["bundle"]) for f in record.figures] == [
        ("demo", "fp32"), ("demo", "fp16"), ("demo", "single graph"), ("residual", "fp32"), ("residual", "fp16"),
        ("mobile", "fp32"), ("mobile", "fp16"), ("mobile", "single graph"),
    ]  # fmt: skip


def test_bundles_and_maps_are_made_ahead_without_a_gpu(command, tmp_path, capsys, monkeypatch, part):
    kept = tmp_path / "kept"
    made = ["--bundles", str(kept), "--dry", "--models", "mobile"]
    assert command.main(["--prepare", *made]) == 0
    assert "mobile, maps of the CPU: made in" in capsys.readouterr().out
    assert {p.name for p in kept.glob("mobile-*")} == {"mobile-fp32.fcam", "mobile-fp16.fcam", "mobile-single.fcam"}
    monkeypatch.setattr(part("lab").Lab, "_export", None)  # whoever exports again fails
    lab = command.lab_of(command.options(made), tmp_path, None)
    assert lab.made("mobile")
    assert lab.made("demo")
    assert lab.reference("mobile").maps.keys() == lab.reference("demo").maps.keys()
    with pytest.raises(SystemExit):
        command.options(["--prepare"])
    assert "name a folder with --bundles" in capsys.readouterr().err
