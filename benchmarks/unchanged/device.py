"""The CUDA kernels under the shim of the tests, behind an Explainer as on a GPU."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from fusioncam import Explainer
from unchanged.digests import Digests
from unchanged.maps import methods
from unchanged.subjects import CHUNK, HALF, SMALL, THREADS, Bundle, Subjects
from unchanged.tree import OPENERS, lookup, test_support

MADE = ("fusion_cam", "grad_cam", "score_cam")  # by kernels; the others are made on the host beside


@contextmanager
def opening(folder: Path, manifest: Any, device: Any, chunk: int) -> Iterator[None]:
    """Let the Explainer that is opened meanwhile run on a device."""
    try:
        pipeline = lookup("Pipeline")
    except ImportError:
        engine = lookup("open_on_device")(folder, manifest, device, ["CPUExecutionProvider"], chunk, threads=THREADS)
    else:
        plain = pipeline.open

        def on_device(bundles: Any, options: Any, *rest: Any) -> Any:
            return plain(bundles, replace(options, device=device), *rest)

        with mock.patch.object(pipeline, "open", on_device):
            yield
        return
    calls = []

    def opened(*_: Any, **__: Any) -> Any:
        calls.append(engine)
        return engine

    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            for opener in OPENERS:
                if name.startswith("fusioncam.runtime") and hasattr(module, opener):
                    stack.enter_context(mock.patch.object(module, opener, opened))
        yield
    if not calls:
        raise ImportError("the Explainer has not opened the engine that it was given; see OPENERS")


def run(digests: Digests, subjects: Subjects) -> None:
    """Add the maps of the kernels for methods, budgets, chunks and classes."""
    with digests.part("device"):
        shim = test_support("shim/host.py")
        (subjects.work / "shim").mkdir()
        device = shim.HostDevice(shim.Compiler(subjects.work / "shim").library("plain"))
        for name in (SMALL, HALF):
            if name in subjects.bundles:
                with digests.part(f"device/{name}"):
                    _add(digests, subjects, device, subjects.bundles[name])


def _add(digests: Digests, subjects: Subjects, device: Any, bundle: Bundle) -> None:
    manifest = lookup("read_bundle")(bundle.folder)

    def opened(budget: Any = "exact", chosen: Sequence[str] = MADE, chunk: int = CHUNK, **options: Any) -> Explainer:
        with opening(bundle.folder, manifest, device, chunk):
            return Explainer(bundle.folder, None, chosen, budget, chunk=chunk, threads=THREADS, **options)

    name, photo = f"device/{bundle.name}", subjects.photos[0]
    calls: list[tuple[int, int]] = []
    for budget in ("exact", "auto", 0.2, 24):
        found = opened(budget).explain_batch([photo], [[1, 0, -1]], progress=lambda *call: calls.append(call))
        for i, explanation in enumerate(found):
            digests.add_explanation(f"{name}/{budget}/{i}", explanation)
        digests.add_explanation(f"{name}/{budget}/beside", opened(budget, methods(budget)).explain(photo, 1))
    digests.add(f"{name}/progress", calls)
    for method in MADE:
        digests.add(f"{name}/alone/{method}", opened(chosen=[method]).explain(photo, 0).maps[method])
        digests.add(f"{name}/overlay/{method}", opened().overlay(photo, 0, method=method))
    for chunk in (1, 5, 64):
        digests.add_explanation(f"{name}/chunk {chunk}", opened(chunk=chunk).explain(photo, 0))
    digests.add_explanation(f"{name}/flip", opened(smooth=["flip"]).explain(photo, 0))
    for i, explanation in enumerate(opened().explain_batch(subjects.photos, top=2)):
        digests.add_explanation(f"{name}/top/{i}", explanation)
