"""What a bundle's explanations cost on this machine, by budget, and how near their maps are to exact ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.files import temporary_folder
from fusioncam.manifest import read_bundle
from fusioncam.runtime.bench.comparison import BARE, Candidate, Drawn, Picture, Row, Rules, compare
from fusioncam.runtime.bench.memory import Memory, in_fresh_process
from fusioncam.runtime.bench.passes import BarePasses, ReferenceCheck
from fusioncam.runtime.budget import Budget, parse_budget
from fusioncam.runtime.explainer import Explainer
from fusioncam.runtime.methods import METHODS
from fusioncam.runtime.photos.model_input import ImageLike, as_input
from fusioncam.runtime.sessions.providers import Provider

EXACT: Literal["exact"] = "exact"
SAMPLES, MOST_ROUNDS = 3, 10_000
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class BenchConfig:
    """How a bundle is opened: see `Explainer`."""

    providers: Sequence[Provider] | None = None
    chunk: int | None = None
    threads: int | None = None
    methods: Sequence[str] = METHODS

    def open(self, folder: Path, budget: Budget) -> Explainer:
        """An Explainer; raises what that raises."""
        return Explainer(folder, self.providers, self.methods, budget, chunk=self.chunk, threads=self.threads)


@dataclass(frozen=True)
class Report:
    """What was found: the pictures, the chunk that was used, and a row for the bare passes and for each budget."""

    bundle: str
    pictures: list[Picture]
    made_up: bool
    rounds: int
    chunk: int
    config: BenchConfig
    rows: list[Row]


def bench_bundle(
    folder: Path,
    images: Sequence[ImageLike],
    budgets: Sequence[Budget] = (EXACT,),
    rounds: int = 5,
    config: BenchConfig | None = None,
    progress: Progress = lambda done, every: None,
) -> Report:
    """Measure a bundle.

    Args:
        folder: The bundle.
        images: Pictures, see `Explainer.explain`; none for drawn ones.
        budgets: See `Explainer`; `exact` is always among them.
        rounds: Runs per picture and budget, after one whose maps are looked at.
        config: How the bundle is opened.
        progress: Called with (done, all) explanations.

    Raises:
        UsageError: A budget, or the number of rounds, makes no sense.
        FusionCamError: The bundle cannot be opened or run, or a picture cannot be read.
    """
    if not budgets:
        raise UsageError("no budget is named; exact is one")
    if not 1 <= rounds <= MOST_ROUNDS:
        raise UsageError(f"rounds must be a whole number, 1 to {MOST_ROUNDS}")
    config = config or BenchConfig()
    explainers = {str(b): config.open(folder, b) for b in (EXACT, *budgets)}
    exact = explainers[EXACT]
    bare = BarePasses(folder, exact.manifest, exact.chunk, config.providers, config.threads)
    pictures = _pictures(images or drawn_pictures(exact.manifest.preprocessing.size), exact, bare)
    every = len(explainers) * (1 + len(pictures) * (rounds + 1)) + len(pictures) * rounds + 1
    tick = _ticker(progress, every)
    candidates = [
        Candidate(name, partial(explaining, explainer), ReferenceCheck(bare) if name == EXACT else approximate)
        for name, explainer in explainers.items()
    ]
    rows = compare(
        pictures, candidates, Rules(rounds, lambda p, count: bare.run(p.x, count), bare.confidences, tick=tick)
    )
    count = rows[0].passes[0] if rows[0].passes else 0
    for row in rows:
        if row.wrong is None:
            row.memory = memory_of(folder, row.name, pictures[0], config, count)
        tick()
    return Report(folder.name, pictures, not images, rounds, bare.chunk, config, rows)


def explaining(explainer: Explainer, picture: Picture) -> Drawn:
    """One explanation by a candidate of ours."""
    found = explainer.explain(picture.x, picture.class_index)
    return Drawn(found.maps, found.passes.run, found.flags, found.passes.missing)


def approximate(picture: Picture, drawn: Drawn) -> None:
    """Judge of a budget's maps, which are approximations: how near they come is what the row says."""


def memory_of(folder: Path, name: str, picture: Picture, config: BenchConfig, count: int, images: int = 1) -> Memory:
    """Memory of one way of explaining a picture, or the same picture several times over, in a fresh process.

    Args:
        folder: The bundle.
        name: A budget, or `BARE` for `count` bare passes.
        picture: The picture.
        config: How the bundle is opened.
        count: Bare passes.
        images: How many pictures.
    """
    with temporary_folder() as room:
        file = room / "x.npy"
        np.save(file, picture.x)
        asked = {
            "bundle": str(folder.absolute()),
            "picture": str(file),
            "class_index": picture.class_index,
            "budget": None if name == BARE else name,
            "count": count,
            "images": images,
            "providers": config.providers,
            "chunk": config.chunk,
            "threads": config.threads,
            "methods": list(config.methods),
        }
        return in_fresh_process(["-m", "fusioncam.runtime.bench.child"], asked)


def load_asked(asked: dict[str, Any]) -> Callable[[], object]:
    """The other end of `memory_of`: load the model; what is given explains."""
    folder, x = Path(asked["bundle"]), np.load(asked["picture"])
    config = BenchConfig(asked["providers"], asked["chunk"], asked["threads"], asked["methods"])
    if asked["budget"] is None:
        chunk = config.open(folder, EXACT).chunk if config.chunk is None else config.chunk
        bare = BarePasses(folder, read_bundle(folder), chunk, config.providers, config.threads)
        return lambda: bare.run(x, asked["count"])
    explainer = config.open(folder, parse_budget(asked["budget"]))
    return lambda: explainer.explain_batch([x] * asked["images"], asked["class_index"])


def drawn_pictures(size: tuple[int, int]) -> list[ImageLike]:
    """Pictures (H, W, 3) uint8 for a model that comes without: the demo's scenes, each of three objects."""
    from fusioncam.runtime.demo.scenes import draw_scene

    return [draw_scene(seed, size, objects=3).image for seed in range(SAMPLES)]


def _pictures(images: Sequence[ImageLike], exact: Explainer, bare: BarePasses) -> list[Picture]:
    """Pictures as the model takes them, each with its top class."""
    found = []
    for number, image in enumerate(images):
        _, x = as_input(image, exact.manifest.preprocessing)
        name = Path(image).name if isinstance(image, str | Path) else f"{number + 1}"
        found.append(Picture(name, x, int(bare.logits([x])[0].argmax())))
    return found


def _ticker(progress: Progress, every: int) -> Callable[[], None]:
    """Counts."""
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        progress(min(done, every), every)

    return tick
