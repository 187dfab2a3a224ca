"""Mutated bundles through `fusioncam explain` and `fusioncam check`, each in a process of its own."""

import json
import os
import random
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from fusioncam.manifest import MANIFEST, sha256, signed
from fusioncam.runtime.commands.demo import save_sample
from fuzz.byte_mutations import OF_BYTES
from fuzz.commands import command
from fuzz.model_mutations import mutate
from fuzz.request_mutations import NASTY
from fuzz.sandbox import Outcome, complaint, run_forked
from fuzz.seeds import write_seeds

PHOTO, BUNDLE, RESULTS = "photo.png", "spoiled.fcam", "out"
# What the sound bundles are made of, and how.
MADE = {"plain": ("--single", "--unrolled", "4", "--preset", "torchvision"), "tokens": (), "residual": ("--single",)}
EXPLAIN = (
    ("--methods", "fusion_cam,recipro_cam", "-k", "2"),
    ("--budget", "auto", "--separate"),
    ("--methods", "grad_cam", "--resolution", "photo"),
    (),
)


class Bundles:
    """Cases of bundles.

    Args:
        work: A folder for the sound ones.
    """

    def __init__(self, work: Path) -> None:
        seeds = write_seeds(work)
        self.photo = work / PHOTO
        run_forked(lambda: save_sample(work).rename(self.photo), work)
        self.seeds = {}
        for name, options in MADE.items():
            self.seeds[name] = work / f"{name}.fcam"
            outcome = run_forked(command("export", seeds[name], "-o", self.seeds[name], *options), work)
            assert outcome.status == 0, outcome.err

    def make(self, rng: random.Random, folder: Path) -> list[str]:
        """Write a mutated bundle into the folder; returns what it was made of."""
        name = rng.choice(list(self.seeds))
        bundle = folder / BUNDLE
        shutil.copytree(self.seeds[name], bundle)
        shutil.copy(self.photo, folder / PHOTO)
        # The source is where the manifest says, beside the bundle.
        shutil.copy(self.seeds[name].with_suffix(".onnx"), folder)
        done = [name]
        for _ in range(rng.choice((1, 1, 1, 2))):
            mutation = rng.choice(MUTATIONS)
            done.append(mutation.__name__)
            mutation(rng, bundle, list(self.seeds.values()))
        if rng.random() < 0.6:
            done.append("sign")
            _sign(bundle)
        options = rng.choice(EXPLAIN)
        (folder / "options").write_text(json.dumps(options))
        return [*done, *options]

    def run(self, folder: Path) -> dict[str, tuple[Outcome, str]]:
        """Explain with it and check it: by command, how it ended, and what is wrong."""
        options = json.loads((folder / "options").read_text())
        ended = {}
        for name, arguments in {
            "explain": ("explain", BUNDLE, PHOTO, "-o", RESULTS, *options),
            "check": ("check", BUNDLE),
        }.items():
            outcome = run_forked(command(*arguments), folder)
            ended[name] = outcome, complaint(outcome)
        return ended


def _sign(bundle: Path) -> None:
    """Have the manifest agree with the files and with its own digest again, as far as it can be read."""
    path = bundle / MANIFEST
    if not _is_plain(path):
        return
    try:
        said = json.loads(path.read_text())
        for name in list(said["files"]):
            if _is_plain(bundle / name):
                said["files"][name] = sha256(bundle / name)
        if isinstance(said.get("digest"), str):
            said["digest"] = "0" * 64
        path.write_bytes(signed(json.dumps(said).encode()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return


def _is_plain(file: Path) -> bool:
    """Return whether it may be read and written: another mutation may have put a link, a pipe or a folder there."""
    return file.is_file() and not file.is_symlink()


def _some_file(rng: random.Random, bundle: Path) -> Path:
    return rng.choice(sorted(p for p in bundle.iterdir() if p.name != MANIFEST) or [bundle / MANIFEST])


def spoil_text(rng: random.Random, bundle: Path, _: list[Path]) -> None:
    """Some bytes of the manifest are others, are gone, or are new."""
    _spoil_bytes(rng, bundle / MANIFEST)


def _spoil_bytes(rng: random.Random, file: Path) -> None:
    if _is_plain(file) and (data := bytearray(file.read_bytes())):
        rng.choice(OF_BYTES)(rng, data)
        file.write_bytes(bytes(data))


def nest_text(rng: random.Random, bundle: Path, _: list[Path]) -> None:
    """The manifest is nested without end, repeats a key, or is in another encoding."""
    if not _is_plain(bundle / MANIFEST):
        return
    text = (bundle / MANIFEST).read_text(errors="replace")
    deep = rng.choice((100, 1000, 100_000))
    changed: bytes = rng.choice((
        b"[" * deep, b'{"a":' * deep, text[:-2].encode() + b', "layer": ' + b"[" * deep, text.encode("utf-16"),
        text[:-2].encode() + b', "classes": 3}', b"\xef\xbb\xbf" + text.encode(), b"", b"null", b"[]", b"1e999",
        text.replace('"classes": 4', '"classes": ' + "9" * deep).encode(),
    ))  # fmt: skip
    (bundle / MANIFEST).write_bytes(changed)


def change_value(rng: random.Random, bundle: Path, _: list[Path]) -> None:
    """A value of the manifest is another, is gone, or is new."""
    if not _is_plain(bundle / MANIFEST):
        return
    try:
        said = json.loads((bundle / MANIFEST).read_text())
    except (ValueError, RecursionError):
        return
    for _ in range(rng.choice((1, 1, 2, 3))):
        holder: Any = said
        while isinstance(holder, dict | list) and holder:
            key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
            if isinstance(holder[key], dict | list) and holder[key] and rng.random() < 0.7:
                holder = holder[key]
                continue
            way = rng.random()
            if way < 0.45:
                holder[key] = deepcopy(rng.choice(NASTY))
            elif way < 0.7:
                holder[key] = _near(rng, holder[key])
            elif way < 0.85:
                del holder[key]
            elif isinstance(holder, dict):
                holder[rng.choice(("extra", "size", "labels", "digest", "head.onnx", "../x", "files"))] = deepcopy(
                    rng.choice(NASTY)
                )
            else:
                holder.append(holder[key])
            break
    (bundle / MANIFEST).write_text(json.dumps(said))


def _near(rng: random.Random, value: Any) -> Any:
    """A value of the same type, which may well pass for right."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice((value + 1, value - 1, value * 2, 1, 1 << 20, 1 << 40))
    if isinstance(value, float):
        return rng.choice((-value, value * 1e30, value + 1, 1e-300))
    words = ("softmax", "sigmoid", "value", "logits", "float16", "float32", "int8", "NCHW", "NTC", "NHWC", "crop", "x")
    return rng.choice((*words, "../../../etc/passwd", "/dev/zero", "a\0b", "ä" * 300, str(value) + "x"))


def spoil_file(rng: random.Random, bundle: Path, _: list[Path]) -> None:
    """Some bytes of a graph or of the weights are others, are gone, or are new."""
    _spoil_bytes(rng, _some_file(rng, bundle))


def spoil_graph(rng: random.Random, bundle: Path, _: list[Path]) -> None:
    """A graph is spoiled field by field."""
    graphs = sorted(p for p in bundle.glob("*.onnx") if _is_plain(p))
    if graphs:
        file = rng.choice(graphs)
        try:
            file.write_bytes(mutate(rng, file.read_bytes())[0])
        except DecodeError:  # another mutation was there first
            return


def swap_files(rng: random.Random, bundle: Path, seeds: list[Path]) -> None:
    """A file is that of another bundle, or another of the same."""
    file = _some_file(rng, bundle)
    others = [p for folder in (*seeds, bundle) for p in sorted(folder.iterdir()) if _is_plain(p)]
    alike = [p for p in others if p.name == file.name]
    other = rng.choice(alike if alike and rng.random() < 0.6 else others)
    if _is_plain(file) and other != file:
        shutil.copyfile(other, file)


def misplace_file(rng: random.Random, bundle: Path, _: list[Path]) -> None:
    """A file is gone, empty, a folder, a pipe, a link to nothing or to itself."""
    file = rng.choice(sorted(bundle.iterdir()))
    if not _is_plain(file):
        return
    file.unlink()
    ways: list[Callable[[], object]] = [lambda: None, file.touch, file.mkdir, lambda: os.mkfifo(file)]
    ways += [lambda to=to: file.symlink_to(to) for to in ("gone", file.name, "/dev/zero", "..")]
    rng.choice(ways)()


MUTATIONS = (
    spoil_text, nest_text, change_value, change_value, change_value, spoil_file, spoil_graph, spoil_graph, swap_files,
    misplace_file,
)  # fmt: skip
