"""Ray gives what this process gives. It runs in a process of its own: it leaves threads and warnings behind."""

import csv
import importlib.util
import json
import pickle
import shutil
import socket
import subprocess
import sys
from functools import partial

import cv2
import numpy as np
import pytest

from fusioncam.errors import BundleError, UsageError
from fusioncam.runtime import with_ray
from fusioncam.runtime.evaluation.evaluator import EvaluationConfig, open_rows

ASKED = ("--methods", "fusion_cam,grad_cam", "--steps", "8", "--quiet")

# Ray is started once, for several commands; where this process ends, so does Ray.
SEVERAL = """
import json, os, sys
os.environ["RAY_BACKEND_LOG_LEVEL"] = "fatal"
import ray
from fusioncam.runtime.commands.app import main
ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False, logging_level="ERROR")
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["fusioncam", *arguments]
    try:
        main()
    except SystemExit as end:
        print("ended", end.code, flush=True)
        print("ended", file=sys.stderr, flush=True)
"""


@pytest.fixture
def photos(tmp_path):
    """Ten photos, of which one is damaged, and one has a name that is no text."""
    rng = np.random.default_rng(5)
    folder = tmp_path / "photos"
    folder.mkdir()
    for n in range(9):
        pixels = cv2.resize(rng.integers(0, 256, (4, 6, 3), np.uint8), (60, 40))
        cv2.imwrite(str(folder / f"{n}.png"), pixels)
    (folder / "4.png").write_bytes(b"no picture")
    shutil.copy(folder / "0.png", folder / b"caf\xe9.png".decode(errors="surrogateescape"))
    return folder


def rows(out):
    """Those that count: a photo that fails gets another one each time."""
    found = [json.loads(line) for line in (out / "rows.jsonl").read_bytes().splitlines()]
    return {row["image"]: {**row, "seconds": None, "digest": None} for row in found}


def table(out):
    with (out / "results.csv").open(newline="") as file:
        return [{**line, "seconds": ""} for line in csv.DictReader(file)]


def results(out):
    """The files of `explain`, without the seconds that they took."""
    found = {}
    for path in sorted(out.rglob("*")):
        if path.suffix == ".json":
            record = json.loads(path.read_text())
            found[path.name] = {**record, "timing_seconds": None, "maps": None, "picture": None}
        elif path.suffix == ".csv":
            with path.open(newline="") as file:
                found[path.name] = [{**row, "seconds": "", "maps": "", "picture": ""} for row in csv.DictReader(file)]
        elif path.is_file():
            found[path.name] = path.read_bytes()
    return found


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_ray_gives_what_this_process_gives(run, bundle, photos, tmp_path):
    notes = tmp_path / "notes.json"
    notes.write_text(json.dumps([{"file": f"{n}.png", "boxes": [[5, 5, 30, 30]]} for n in range(9)]))
    with_notes = ("evaluate", bundle, photos, *ASKED, "--annotations", notes, "-o")
    on_ray = (tmp_path / "ray", "--engine", "ray", "--workers", "2")
    assert run(*with_notes, tmp_path / "local")[0] == 0
    explain = ("explain", bundle, photos, "-k", "2", "--table", "csv", "--quiet")
    assert run(*explain, "-o", tmp_path / "results")[0] == 1
    commands = [
        (*with_notes, *on_ray),
        (*with_notes, *on_ray),  # nothing is left to do
        ("evaluate", bundle, photos, *ASKED, *("-o", tmp_path / "bad", "--engine", "ray", "--threads", "0")),
        (*explain, "-o", tmp_path / "results on ray", *on_ray[1:]),
        (*explain, "-o", tmp_path / "results on ray", *on_ray[1:], "--resume"),
    ]
    told = json.dumps([[str(part) for part in command] for command in commands])
    ended = subprocess.run(
        [sys.executable, "-c", SEVERAL, told], capture_output=True, text=True, check=False, timeout=240
    )
    assert [line for line in ended.stdout.splitlines() if line.startswith("ended")] == [
        "ended 0",
        "ended 0",
        "ended 2",
        "ended 1",
        "ended 1",
    ], ended.stderr
    *_, refused, first, again = (part.strip() for part in ended.stderr.split("ended\n") if part.strip())
    assert results(tmp_path / "results on ray") == results(tmp_path / "results")
    assert first == again
    assert "4.png' is not a picture" in first
    assert refused.startswith("error: threads must be a whole number")
    assert "\n" not in refused
    assert rows(tmp_path / "ray") == rows(tmp_path / "local")
    assert table(tmp_path / "ray") == table(tmp_path / "local")
    for name in ("summary.json", "report.html"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()
    (failed,) = (row for row in rows(tmp_path / "ray").values() if "error" in row)
    assert failed["image"] == "4.png"
    assert len(rows(tmp_path / "ray")) == 10


def test_without_ray_one_line_says_how_to_get_it(run, bundle, photos, tmp_path, monkeypatch, only_line):
    monkeypatch.setitem(sys.modules, "ray.data", None)
    status, _, err = run("evaluate", bundle, photos, *ASKED, "-o", tmp_path / "out", "--engine", "ray")
    assert status == 2
    assert 'pip install "fusioncam[ray]"' in only_line(err)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_a_cluster_that_is_not_there_is_told_at_once(run, bundle, photos, tmp_path):
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        asked = [
            "evaluate",
            bundle,
            photos,
            *ASKED,
            "-o",
            tmp_path / "out",
            "--engine",
            "ray",
            "--ray-address",
            address,
        ]
        command = [sys.executable, "-m", "fusioncam", *map(str, asked)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: no Ray cluster answers at {address} (")
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("machines", "workers", "cores"),
    [([16], 2, 8), ([2], 8, 1), ([16, 16, 16, 16], 2, 16), ([4, 16], 4, 5), ([], 1, 1)],
)
def test_cores_are_shared_out_among_the_workers_and_are_of_one_machine(machines, workers, cores):
    class Cluster:
        @staticmethod
        def nodes():
            gone = {"Alive": False, "Resources": {"CPU": 99.0}}
            return [gone, *({"Alive": True, "Resources": {"CPU": float(n)}} for n in machines)]

    assert with_ray._cores(Cluster, workers) == cores


def test_what_ends_all_of_it_comes_back_in_place_of_the_rows(tmp_path):
    batch = {"item": np.array([pickle.dumps(("0.png", tmp_path / "0.png"))], object)}
    for config, error in ((EvaluationConfig(tmp_path), BundleError), (EvaluationConfig(None), UsageError)):
        (pickled,) = with_ray.Actor(partial(open_rows, config), 1, str(tmp_path / "gone"))(batch)["result"]
        assert type(pickle.loads(pickled)) is error
