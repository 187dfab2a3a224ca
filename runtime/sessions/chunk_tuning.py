"""How many pictures the CPU should take at a time: found by a short measurement, and remembered."""

import hashlib
import json
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
from fusioncam.runtime.sessions.providers import bundle_digest

SIZES = (1, 2, 4, 8, 16, 32)
MOST_BYTES = 5_000_000  # of the pictures of a chunk beyond CHUNK: what the layers take grows with them
CLEAR = 0.9  # CHUNK stays unless another size takes less than this share of its time, and less than it every turn:
NEARLY = 1.05  # noise shall change nothing. Of sizes that are nearly as quick, the smallest needs the least memory.
FEWEST, MOST, SECONDS = 3, 10, 1.0  # turns, and what they may take in all

Run = Callable[[int], object]


def sizes_to_try(size: tuple[int, int]) -> list[int]:
    """Sizes of chunks that are worth a try for pictures of `size` (H, W)."""
    return [n for n in SIZES if n <= CHUNK or n * 3 * size[0] * size[1] * 4 <= MOST_BYTES]


def choose(turns: Sequence[Mapping[int, float]]) -> int:
    """The size to use.

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
    """Seconds per picture at every size, turn by turn.

    At every size a turn passes as many pictures, so that whatever else the machine does meets all sizes alike. It is
    over before it would go beyond `limit`, or when a run fails: of a slow model, or a large one, there are few turns or
    none.

    Args:
        run: Passes so many pictures through the model.
        sizes: In ascending order.
        limit: Seconds for everything.
        clock: Tells the time.
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
    except FusionCamError:  # for lack of memory; if anything else is wrong, it will be said in time
        return []
    return turns


def remembered_chunk(manifest: Manifest, threads: int | None, run: Run) -> int:
    """The size for a bundle on this machine, measured the first time.

    Args:
        manifest: The bundle's.
        threads: Of onnxruntime, see `open_session`.
        run: Passes so many pictures through the model.
    """
    sizes = sizes_to_try(manifest.preprocessing.size)
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
    """What was remembered; None where that cannot be read, or is none of `sizes`."""
    try:
        chunk = json.loads(file.expanduser().read_bytes())["chunk"]
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, RecursionError):  # RuntimeError: no such home
        return None
    return chunk if type(chunk) is int and chunk in sizes else None


def remember(file: Path, what: Mapping[str, object]) -> None:
    """Keep it if that can be done; else it will be measured again."""
    with suppress(OSError, RuntimeError):
        file = file.expanduser()
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, json.dumps(what, indent=2).encode() + b"\n")


def processor() -> str:
    """The name of the processor, as far as the system tells it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
