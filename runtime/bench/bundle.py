"""The cost of a bundle's explanations on this machine by budget, and the difference of their maps from exact ones."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.files import temporary_folder
from fusioncam.input_values import InputValues
from fusioncam.manifest import Manifest, Preprocessing, read_bundle
from fusioncam.runtime.bench.comparison import BARE, Candidate, Drawn, Picture, Row, Rules, accept, compare
from fusioncam.runtime.bench.memory import Memory, answer, in_fresh_process
from fusioncam.runtime.bench.passes import BarePasses, ReferenceCheck
from fusioncam.runtime.budget import Budget, parse_budget
from fusioncam.runtime.engine import Progress
from fusioncam.runtime.explainer import Explainer
from fusioncam.runtime.photos.model_input import ImageLike, as_input, normalised
from fusioncam.runtime.picture_inputs import read_inputs
from fusioncam.runtime.providers.spec import Provider
from fusioncam.runtime.targets.tasks import task_of

EXACT: Literal["exact"] = "exact"
SAMPLES, MOST_ROUNDS = 3, 10_000


@dataclass(frozen=True)
class BenchConfig:
    """The options a bundle is opened with: see `Explainer`."""

    providers: Sequence[Provider] | None = None
    chunk: int | None = None
    threads: int | None = None
    methods: Sequence[str] | None = None
    allow_cpu: bool = False
    inputs: InputValues = field(default_factory=dict)

    def open(self, folder: Path, budget: Budget) -> Explainer:
        """Return an Explainer; raise the errors that it raises."""
        return Explainer(
            folder, self.providers, self.methods, budget,
            chunk=self.chunk, threads=self.threads, allow_cpu=self.allow_cpu, inputs=self.inputs,
        )  # fmt: skip

    def bare(self, folder: Path, manifest: Manifest, chunk: int) -> BarePasses:
        """Return the bare passes of a bundle; raise the errors that they raise."""
        inputs = read_inputs(manifest, self.inputs)
        return BarePasses(folder, manifest, chunk, self.providers, self.threads, self.allow_cpu, inputs)


@dataclass(frozen=True)
class Report:
    """The result of a bench: pictures, chunk, and a row for the bare passes and for each budget."""

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
    progress: Progress = lambda done, total: None,
) -> Report:
    """Measure the explanations of a bundle.

    Args:
        folder: The bundle.
        images: Pictures, see `Explainer.explain`; none for drawn ones.
        budgets: See `Explainer`; `exact` is always among them.
        rounds: Runs per picture and budget, after one whose maps are checked.
        config: The options the bundle is opened with.
        progress: Called with (done, all) explanations.

    Raises:
        UsageError: There is no budget, the number of rounds is out of range, or the model has no vector of classes.
        FusionCamError: The bundle cannot be opened or run, or a picture cannot be read.
    """
    if not budgets:
        raise UsageError("no budget is given; use exact, for example")
    if not 1 <= rounds <= MOST_ROUNDS:
        raise UsageError(f"rounds must be a whole number, 1 to {MOST_ROUNDS}")
    manifest = read_bundle(folder)
    if manifest.form.scored:
        raise UsageError(
            f"bench measures models of classes and values, and this one {task_of(manifest).does}: its results say the "
            "seconds of each explanation (explain --json), and evaluate how good its maps are"
        )
    config = config or BenchConfig()
    explainers = {str(b): config.open(folder, b) for b in (EXACT, *budgets)}
    exact = explainers[EXACT]
    bare = config.bare(folder, exact.manifest, exact.chunk)
    pictures = _pictures(images or drawn_pictures(exact.manifest.preprocessing), exact, bare)
    total = len(explainers) * (1 + len(pictures) * (rounds + 1)) + len(pictures) * rounds + 1
    done = itertools.count(1)

    def tick() -> None:
        progress(min(next(done), total), total)

    candidates = [
        Candidate(name, partial(explaining, explainer), ReferenceCheck(bare) if name == EXACT else accept)
        for name, explainer in explainers.items()
    ]
    rows = compare(
        pictures, candidates, Rules(rounds, lambda p, passes: bare.run(p.x, passes), bare.confidences, tick=tick)
    )
    passes = rows[0].passes[0] if rows[0].passes else 0
    for row in rows:
        if row.wrong is None:
            row.memory = memory_of(folder, row.name, pictures[0], config, passes)
        tick()
    return Report(folder.name, pictures, not images, rounds, bare.chunk, config, rows)


def explaining(explainer: Explainer, picture: Picture) -> Drawn:
    """Explain a picture, and return the explanation as the comparison takes it."""
    explanation = explainer.explain(picture.x, picture.class_index)
    return Drawn(explanation.maps, explanation.passes.run, explanation.flags, explanation.passes.missing)


def memory_of(folder: Path, name: str, picture: Picture, config: BenchConfig, count: int, images: int = 1) -> Memory:
    """Return the memory that explaining a picture takes in a new process.

    Args:
        folder: The bundle.
        name: A budget, or `BARE` for `count` bare passes.
        picture: The picture.
        config: The options the bundle is opened with.
        count: Bare passes.
        images: Copies of the picture that are explained at once.
    """
    with temporary_folder() as room:
        file = room / "x.npy"
        np.save(file, picture.x)
        inputs = {
            "bundle": str(folder.absolute()),
            "picture": str(file),
            "class_index": picture.class_index,
            "budget": None if name == BARE else name,
            "count": count,
            "images": images,
            "config": asdict(config),
        }
        return in_fresh_process(["-m", "fusioncam.runtime.bench.bundle"], inputs)


def load_subject(inputs: dict[str, Any]) -> Callable[[], object]:
    """Load the model that `memory_of` asks for, and return the function that explains."""
    folder, x = Path(inputs["bundle"]), np.load(inputs["picture"])
    config = BenchConfig(**inputs["config"])
    if inputs["budget"] is None:
        chunk = config.open(folder, EXACT).chunk if config.chunk is None else config.chunk
        bare = config.bare(folder, read_bundle(folder), chunk)
        return lambda: bare.run(x, inputs["count"])
    explainer = config.open(folder, parse_budget(inputs["budget"]))
    return lambda: explainer.explain_batch([x] * inputs["images"], inputs["class_index"])


def drawn_pictures(preprocessing: Preprocessing) -> list[ImageLike]:
    """Return pictures for a user who gives none: (H, W, 3) uint8, scenes of the demo with three objects each.

    For a model of bands every band is the grey of such a scene; for one of signals or volumes they are noise.
    """
    if preprocessing.kind != "pictures":
        noise = np.random.default_rng(0)
        return [noise.standard_normal(preprocessing.shape, np.float32) for _ in range(SAMPLES)]
    from fusioncam.runtime.demo.scenes import draw_scene

    height, width = preprocessing.size
    scenes = [draw_scene(seed, (height, width), objects=3).image for seed in range(SAMPLES)]
    if preprocessing.takes_photos:
        return list(scenes)
    return [normalised(scene[..., [1] * preprocessing.channels], preprocessing) for scene in scenes]


def _pictures(images: Sequence[ImageLike], exact: Explainer, bare: BarePasses) -> list[Picture]:
    """Return pictures as the model takes them, each with its top class."""
    pictures = []
    for number, image in enumerate(images):
        _, x = as_input(image, exact.manifest.preprocessing)
        name = Path(image).name if isinstance(image, str | Path) else f"{number + 1}"
        pictures.append(Picture(name, x, int(bare.logits([x])[0].argmax())))
    return pictures


if __name__ == "__main__":  # the process that `memory_of` starts
    answer(load_subject)
