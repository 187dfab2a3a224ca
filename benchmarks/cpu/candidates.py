"""The candidates: fusioncam by each budget, as float32 and int8, and the peers."""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from networks import pictures as draw
from peers import Peer, every_peer
from record import Record

from cpu.setting import Setting
from cpu.subjects import InTorch, Subject, folder_of_photos, in_torch
from fusioncam.errors import FusionCamError
from fusioncam.runtime.bench.bundle import BenchConfig, explaining, memory_of
from fusioncam.runtime.bench.comparison import BARE, Candidate, Drawn, Picture, Row, accept
from fusioncam.runtime.bench.fidelity import difference
from fusioncam.runtime.bench.memory import Memory, answer, in_fresh_process
from fusioncam.runtime.bench.passes import SAME, BarePasses, ReferenceCheck
from fusioncam.runtime.photos.decode import read_image

GRADIENT = "fusioncam: Grad-CAM"
CALIBRATION = 12  # pictures for int8
COMMAND = Path(__file__).resolve().parents[1] / "cpu.py"


def ours(
    record: Record, subject: Subject, setting: Setting, bare: BarePasses, budgets: Sequence[Any]
) -> list[Candidate]:
    """Return fusioncam as candidates: exact first, then by each of the other budgets, then with int8 scores."""
    found: list[Candidate] = []
    bundles = {"": subject.bundle}
    if setting.int8:
        made = int8_bundle(record, subject)
        bundles |= {" int8": made} if made else {}
    for suffix, bundle in bundles.items():
        for budget in budgets:
            name = f"fusioncam {budget}{suffix}"
            try:
                explainer = BenchConfig(threads=setting.threads).open(bundle, budget)
            except FusionCamError as error:
                record.leave_out(name, error)
                continue
            judge = ReferenceCheck(bare) if not found else accept
            found.append(Candidate(name, partial(explaining, explainer), judge))
    return found


def gradient_only(subject: Subject, setting: Setting) -> Candidate:
    """Return fusioncam without masked passes as a candidate."""
    explainer = BenchConfig(threads=setting.threads, methods=("grad_cam",)).open(subject.bundle, "exact")
    return Candidate(GRADIENT, partial(explaining, explainer))


def theirs(record: Record, subject: Subject, setting: Setting, bare: BarePasses, only: str = "") -> list[Candidate]:
    """Return the peers (whose name begins with `only`) that can be opened; the record names the others."""
    torch.set_num_threads(setting.threads)
    try:
        net = in_torch(subject.name, subject.bundle, subject.pictures[0].x)
    except (ImportError, FusionCamError, NotImplementedError) as error:
        record.leave_out(f"every peer on {subject.name}", error)
        return []
    found = []
    for peer in every_peer():
        if not peer.name.startswith(only):
            continue
        try:
            explain = peer.open(net, subject.bundle, setting.threads)
        except Exception as error:  # whatever their code raises: the others shall run all the same
            record.leave_out(f"{peer.name} on {subject.name}", error)
            continue
        draw_ = partial(by_peer, explain, peer.passes(subject.manifest.layer.shape))
        found.append(Candidate(peer.name, draw_, Own(peer, net, bare), peer.note))
    return found


def by_peer(explain: Callable[[np.ndarray, int], dict[str, np.ndarray]], passes: int, picture: Picture) -> Drawn:
    """Return one explanation of a peer."""
    return Drawn(explain(picture.x, picture.class_index), passes)


class Own:
    """A judge that compares a peer's first map with its own definition, or with the maps of the reference."""

    def __init__(self, peer: Peer, net: InTorch, bare: BarePasses) -> None:
        self.peer, self.net, self.reference, self.asked = peer, net, ReferenceCheck(bare), False

    def __call__(self, picture: Picture, drawn: Drawn) -> str | None:
        """Return why the map is not that of its package's definition, or None."""
        if self.asked:
            return None
        self.asked = True
        if self.peer.defined is None:
            return self.reference(picture, drawn)
        wanted = self.peer.defined(self.net, picture.x, picture.class_index)
        found = difference(drawn.maps[self.peer.method], wanted).correlation
        return None if found >= SAME else f"correlation {found:.4f} with the map of its own definition"


def int8_bundle(record: Record, subject: Subject) -> Path | None:
    """Return the bundle with int8 scores, calibrated on pictures that are not measured, or None if that fails."""
    bundle = subject.bundle.with_name(f"{subject.bundle.stem}-int8.fcam")
    if bundle.exists():
        return bundle
    p, source = subject.manifest.preprocessing, subject.bundle / subject.manifest.source.path
    with tempfile.TemporaryDirectory() as room:
        for number, picture in enumerate(spare_pictures(subject)):
            cv2.imwrite(str(Path(room) / f"{number}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        command = [
            "export", source, "-o", bundle, "--precision", "int8", "--calibrate", room, "--rescale", p.rescale,
            "--mean", *p.mean, "--std", *p.std, "--channel-order", p.channel_order, "--resize", p.resize, "--quiet",
        ]  # fmt: skip
        shell = [sys.executable, "-m", "fusioncam", *map(str, command)]
        done = subprocess.run(shell, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        record.leave_out(f"fusioncam int8 on {subject.name}", lines[-1])
        return None
    return bundle


def spare_pictures(subject: Subject) -> list[np.ndarray]:
    """Return pictures (H, W, 3) uint8 for calibration, none of those that are measured."""
    measured = {Path(p) for p in subject.photos if isinstance(p, str | Path)}
    if not measured:
        return draw(subject.manifest.preprocessing.size[0], CALIBRATION, seed=3)
    others = [p for p in folder_of_photos(next(iter(measured)).parent) if p not in measured]
    found = []
    for path in others[:CALIBRATION]:
        with contextlib.suppress(FusionCamError):
            found.append(read_image(path))
    return found


def weigh(record: Record, subject: Subject, setting: Setting, row: Row, bare: BarePasses) -> None:
    """Measure the memory of a row's candidate, in a process of its own."""
    picture, config = subject.pictures[0], BenchConfig(threads=setting.threads)
    try:
        if row.name == BARE:
            row.memory = memory_of(
                subject.bundle, BARE, picture, BenchConfig(chunk=bare.chunk, threads=setting.threads), 64
            )
        elif row.name == GRADIENT:
            row.memory = memory_of(subject.bundle, "exact", picture, replace(config, methods=("grad_cam",)), 0)
        elif row.name.startswith("fusioncam "):
            _, budget, *int8 = row.name.split()
            bundle = subject.bundle.with_name(f"{subject.bundle.stem}-int8.fcam") if int8 else subject.bundle
            row.memory = memory_of(bundle, budget, picture, config, 0)
        else:
            row.memory = memory_of_peer(subject, row.name, picture, setting.threads)
    except FusionCamError as error:
        record.leave_out(f"memory of {row.name} on {subject.name}", error)


def memory_of_peer(subject: Subject, name: str, picture: Picture, threads: int) -> Memory:
    """Return the memory of a peer in a process of its own."""
    with tempfile.TemporaryDirectory() as room:
        file = Path(room) / "x.npy"
        np.save(file, picture.x)
        asked = {
            "subject": subject.name, "bundle": str(subject.bundle.absolute()), "peer": name, "picture": str(file),
            "class_index": picture.class_index, "threads": threads,
        }  # fmt: skip
        return in_fresh_process([str(COMMAND), "--memory-of-peer"], asked)


def answer_for_peer() -> None:
    """Measure the memory that `memory_of_peer` asks for."""

    def load(asked: dict[str, Any]) -> Callable[[], object]:
        torch.set_num_threads(asked["threads"])
        x, bundle = np.load(asked["picture"]), Path(asked["bundle"])
        net = in_torch(asked["subject"], bundle, x)
        peer = next(p for p in every_peer() if p.name == asked["peer"])
        explain = peer.open(net, bundle, asked["threads"])
        return lambda: explain(x, asked["class_index"])

    answer(load)
