"""onnxruntime-node runs the same file and finds the same."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from fusioncam.export import single_graph

PACKAGE = "onnxruntime-node@1.30.0"
SECONDS = 120


@pytest.fixture(scope="module")
def node_module():
    """The folder of onnxruntime-node, installed once into the user's cache, without what it downloads for CUDA."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("there is no node with npm")
    room = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fusioncam-tests" / PACKAGE
    module = room / "node_modules" / "onnxruntime-node"
    if not (module / "package.json").exists():
        room.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--prefix", str(room), "--no-audit", "--no-fund", "--ignore-scripts", PACKAGE]
        environment = {**os.environ, "ONNXRUNTIME_NODE_INSTALL": "skip", "ONNXRUNTIME_NODE_INSTALL_CUDA": "skip"}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=SECONDS, check=False, env=environment
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"npm does not get {PACKAGE} in time")
        if done.returncode:
            pytest.skip(f"npm cannot install {PACKAGE}: {done.stderr.strip().splitlines()[-1:]}")
    return module


OF_MAPS = {"class_index": np.int64(-1), "region": np.zeros((12, 16), np.float32), "peak": np.bool_(False)}
TARGETS = {
    "classify": {"class_index": np.int64(2)},
    "segment": OF_MAPS,
    "embed": {"reference": np.linspace(-3, 1, 6, dtype=np.float32)},
}


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("shared_weights", [False, True])
def test_the_same_from_node(kind, shared_weights, node_module, usual, target_bundle, pictures, run_single, tmp_path):
    bundle = usual if kind == "classify" else target_bundle(kind).bundle
    (tmp_path / "graph.onnx").write_bytes(single_graph(bundle, shared_weights=shared_weights))
    feeds = {name: np.asarray(value)[None] for name, value in {"image": pictures[0], **TARGETS[kind]}.items()}
    for name, array in feeds.items():
        (tmp_path / f"{name}.in").write_bytes(array.tobytes())
    (tmp_path / "feeds.json").write_text(json.dumps({n: (str(a.dtype), a.shape) for n, a in feeds.items()}))
    arguments = [node_module, tmp_path / "graph.onnx", tmp_path / "feeds.json", tmp_path]
    script = Path(__file__).with_name("explain.cjs")
    done = subprocess.run(["node", script, *arguments], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    for name, wanted in run_single(bundle)(pictures[0], TARGETS[kind]).items():
        found = np.fromfile(tmp_path / f"{name}.bin", wanted.dtype).reshape(wanted.shape)
        np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=1e-5)
