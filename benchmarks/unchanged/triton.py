"""A repository for Triton, and the answers of its Python model, run in this process as the tests run it."""

import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnxruntime

from unchanged.commands import fusioncam
from unchanged.digests import Digests
from unchanged.graphs import open_graph
from unchanged.subjects import Subjects, prepared
from unchanged.tree import lookup, test_support

REPOSITORY, NAME = Path("repository"), "small"


def run(digests: Digests, subjects: Subjects) -> None:
    """Add the files of repositories, and the answers of a model."""
    written: dict[str, tuple[str, ...]] = {
        "both": ("--repo", str(REPOSITORY), "--form", "both", "--name", NAME),
        "gpu": ("--repo", "repository gpu", "--form", "bls", "--tensorrt", "--instances", "2"),
    }
    for what, options in written.items():
        with digests.part(f"triton/{what}"):
            done = fusioncam("triton", str(subjects.small.folder), *options, "--json")
            digests.add(f"triton/{what}/status", done.returncode)
            digests.add(f"triton/{what}/stdout", done.stdout)
            digests.add(f"triton/{what}/text", done.stderr)
            for path in sorted(p for p in Path(options[1]).rglob("*") if p.is_file()):
                if path.name != "model.py":  # source, which a refactor may rewrite: its answers are held below
                    digests.add_file(f"triton/{what}/{path.relative_to(options[1])}", path)
    with digests.part("triton/model"):
        _answers(digests, subjects)


def texts(*said: str) -> np.ndarray:
    """Return a BYTES tensor."""
    return np.array([s.encode() for s in said], object)


def _answers(digests: Digests, subjects: Subjects) -> None:
    backend = test_support("triton/backend.py")
    server = backend.Server(REPOSITORY)
    x = prepared(subjects.photos[0], lookup("read_bundle")(subjects.small.folder).preprocessing)[None]
    image, photo = {"image": x}, np.array([subjects.photos[0].read_bytes()], object)
    asked: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "usual": (image, {}),
        "photo": ({"image_bytes": photo, "class_index": np.array([3])}, {}),
        "two": ({"image": np.concatenate([x, x[:, :, ::-1]]), "class_index": np.array([-1, 2])}, {}),
        "parameters": (image, {"class_index": 3, "method": "score_cam, grad_cam", "budget": "24"}),
        "share": ({**image, "budget": texts("0.2"), "method": texts("union_cam", "group_cam")}, {}),
        "auto": ({**image, "budget": texts("auto")}, {}),
        "class": ({**image, "class_index": np.array([10])}, {}),
        "method": ({**image, "method": texts("camera")}, {}),
        "budget": ({**image, "budget": texts("-1")}, {}),
        "small budget": ({**image, "budget": texts("1")}, {}),
        "no picture": ({}, {}),
        "not a picture": ({"image_bytes": texts("no picture")}, {}),
        "nan": ({"image": x * np.float32(np.nan)}, {}),
    }
    with (
        mock.patch.dict(sys.modules, {"triton_python_backend_utils": backend.module(server)}),
        mock.patch.object(onnxruntime, "InferenceSession", lambda path, **_: open_graph(path)),
    ):
        front = backend.Front(server, NAME)
        asked["every method"] = ({**image, "method": texts(*front.model.methods)}, {})
        for name, (inputs, parameters) in asked.items():
            with digests.part(f"triton/model/{name}"):
                found = front.ask(inputs, parameters=json.dumps(parameters) if parameters else "")
                if isinstance(found, tuple):
                    digests.add(f"triton/model/{name}/text", found[0])
                    digests.add(f"triton/model/{name}/code", found[1])
                else:
                    for output, array in found.items():
                        digests.add(f"triton/model/{name}/{output}", array)
