"""Networks of torch: made, written in each way, and graded beside torch's autograd."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn

from fusioncam.errors import first_line
from fusioncam.kernels.arrays import Array
from fusioncam.manifest import Manifest
from zoo.autograd import Oracle
from zoo.building import declare_operators, made
from zoo.entry import Entry
from zoo.exporting import WAYS, write
from zoo.grading import Row, grade
from zoo.wide import every_entry


def trials(ways: Sequence[str] | None) -> Iterator[tuple[str, Callable[[Path], dict[str, Row]]]]:
    """Yield the name of each network, and what tries it."""
    torch.set_num_threads(1)
    declare_operators()
    for name, entry in every_entry().items():
        yield name, partial(_trial, entry, [w for w in WAYS if w.startswith(tuple(ways or [""]))])


def _trial(entry: Entry, ways: Sequence[str], folder: Path) -> dict[str, Row]:
    module, picture = made(entry)
    rows: dict[str, Row] = {}
    files = {}
    for i, way in enumerate(ways):
        files[way] = folder / f"{i}.onnx"
        try:
            write(way, module, picture, files[way])
        except (Exception, SystemExit) as error:  # the exporter raises whatever the module raises
            cause = error.__cause__ or error
            rows[way] = {"runs": None, "why": f"torch does not write it: {first_line(cause)}"[:300]}
            files.pop(way)
    oracle = _of_module(module)
    for way, path in files.items():
        rows[way] = grade(path, entry.asked, oracle)
    return rows


def _of_module(module: nn.Module) -> Callable[..., float | None]:
    """Return the comparison with a module, which runs once for every picture."""
    ran: dict[bytes, Oracle] = {}

    def error(
        manifest: Manifest, picture: Array, targets: Mapping[str, Array], run: Mapping[str, Array]
    ) -> float | None:
        key = picture.tobytes()
        if key not in ran:
            ran.clear()
            ran[key] = Oracle(module, picture)
        return ran[key].error(manifest, targets, run)

    return error
