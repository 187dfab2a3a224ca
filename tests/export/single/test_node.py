"""onnxruntime-node runs the same file and finds the same."""

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


@pytest.mark.parametrize("shared_weights", [False, True])
def test_the_same_from_node(shared_weights, node_module, usual, pictures, single_of, tmp_path):
    (tmp_path / "graph.onnx").write_bytes(single_graph(usual, shared_weights=shared_weights))
    (tmp_path / "picture.bin").write_bytes(pictures[0].tobytes())
    script = Path(__file__).with_name("explain.cjs")
    arguments = [node_module, tmp_path / "graph.onnx", tmp_path / "picture.bin", "1,3,24,32", "2", tmp_path]
    done = subprocess.run(["node", script, *arguments], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    for name, wanted in single_of(usual)(pictures[0], 2).items():
        found = np.fromfile(tmp_path / f"{name}.bin", np.float32).reshape(wanted.shape)
        np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=1e-5)
