"""The chunk, the number of pictures that the CPU takes at a time: found by a short measurement, and remembered."""

import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median

import onnxruntime

from fusioncam.errors import FusionCamError
from fusioncam.files import cache_root, replace_file
from fusioncam.manifest import CHUNK, Manifest
from fusioncam.runtime.sessions.engine_cache import bundle_digest

SIZES = (1, 2, 4, 8, 16, 32)
MOST_BYTES = 5_000_000  # of the pictures of a chunk beyond CHUNK: what the layers take grows with them
CLEAR = 0.9  # CHUNK stays unless another size takes less than this share of its time, and less time in every turn:
NEARLY = 1.05  # noise shall change nothing. Of sizes that are nearly as quick, the smallest needs the least memory.
FEWEST, MOST, SECONDS = 3, 10, 1.0  # turns, and the time for all of them

Run = Callable[[int], object]


def sizes_to_try(shape: tuple[int, ...]) -> list[int]:
    """Return sizes of chunks that are worth a try for pictures of `shape` (C, H, W)."""
    return [n for n in SIZES if n <= CHUNK or n * math.prod(shape) * 4 <= MOST_BYTES]


def choose(turns: Sequence[Mapping[int, float]]) -> int:
    """Return the chunk to use.

    Args:
        turns: For every turn, the seconds per picture at every size, CHUNK among them.
    """
    if len(turns) < FEWEST:
        return CHUNK
    clear = {CHUNK: 1.0}
    for n in turns[0]:
        shares = [turn[n] / turn[CHUNK] for turn in turns]
        if median(shares) < CLEAR and max(shares) < 1:
            clear[n] = median(shares)
    return min(n for n, share in clear.items() if share <= NEARLY * min(clear.values()))


def measure(
    run: Run, sizes: Sequence[int], limit: float = SECONDS, clock: Callable[[], float] = time.perf_counter
) -> list[dict[int, float]]:
    """Measure the seconds per picture at every size, turn by turn.

    A turn passes the same number of pictures at every size, so that other work of the machine slows all sizes alike.
    The measurement ends before it exceeds `limit`, or when a run fails: a slow or large model gets few turns or none.

    Args:
        run: Passes a number of pictures through the model.
        sizes: Chunks to try, in ascending order.
        limit: Seconds for all turns.
        clock: Returns the time in seconds.
    """
    end = clock() + limit
    most, slowest = max(sizes), 0.0
    turns: list[dict[int, float]] = []
    try:
        for n in sizes:  # the first run at a size allocates
            start = clock()
            if start + n * slowest > end:
                return []
            run(n)
            slowest = (clock() - start) / n
        while len(turns) < MOST and clock() + len(sizes) * most * slowest <= end:
            turn = {}
            for n in sizes:
                start = clock()
                for _ in range(most // n):
                    run(n)
                turn[n] = (clock() - start) / (most // n * n)
            turns.append(turn)
            slowest = max(turn.values())
    except FusionCamError:  # for lack of memory; the first explanation reports any other failure
        return []
    return turns


def remembered_chunk(manifest: Manifest, threads: int | None, run: Run) -> int:
    """Return the chunk for a bundle on this machine, measured the first time.

    Args:
        manifest: The bundle's.
        threads: Of onnxruntime, see `open_session`.
        run: Passes a number of pictures through the model.
    """
    sizes = sizes_to_try(manifest.preprocessing.shape)
    if sizes == [CHUNK]:
        return CHUNK
    facts = {
        "bundle": bundle_digest(manifest),
        "onnxruntime": onnxruntime.__version__,
        "threads": threads,
        "cores": os.cpu_count(),
        "processor": processor(),
        "sizes": sizes,
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    file = cache_root() / "chunks" / f"{key[:32]}.json"
    known = recall(file, sizes)
    if known is not None:
        return known
    turns = measure(run, sizes)
    chunk = choose(turns)
    remember(file, {"chunk": chunk, "seconds_per_picture": turns, **facts})
    return chunk


def recall(file: Path, sizes: Sequence[int]) -> int | None:
    """Return the remembered chunk; None where the file cannot be read, or holds none of `sizes`."""
    try:
        chunk = json.loads(file.expanduser().read_bytes())["chunk"]
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, RecursionError):  # RuntimeError: no such home
        return None
    return chunk if type(chunk) is int and chunk in sizes else None


def remember(file: Path, record: Mapping[str, object]) -> None:
    """Write the record of a measurement; where that fails, the next start measures again."""
    with suppress(OSError, RuntimeError):
        file = file.expanduser()
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, json.dumps(record, indent=2).encode() + b"\n")


def processor() -> str:
    """Return the name of the processor, as far as the system tells it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
