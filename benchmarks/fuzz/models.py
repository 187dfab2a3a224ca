"""Mutated models through `fusioncam inspect` and `fusioncam export`, each in a process of its own."""

import random
import shutil
from pathlib import Path

from fuzz.commands import command
from fuzz.model_mutations import mutate
from fuzz.sandbox import Outcome, complaint, run_forked
from fuzz.seeds import write_seeds

MODEL, WEIGHTS, BUNDLE = "model.onnx", "apart.bin", "made.fcam"


class Models:
    """Cases of models.

    Args:
        work: A folder for the sound ones.
    """

    def __init__(self, work: Path) -> None:
        self.seeds = write_seeds(work)

    def make(self, rng: random.Random, folder: Path) -> list[str]:
        """Write a mutated model into the folder; returns what it was made of."""
        name = rng.choice(list(self.seeds))
        data, done = mutate(rng, self.seeds[name].read_bytes())
        (folder / MODEL).write_bytes(data)
        if name == "apart":
            shutil.copy(self.seeds[name].with_suffix(".bin"), folder / WEIGHTS)
        return [name, *done]

    def run(self, folder: Path) -> dict[str, tuple[Outcome, str]]:
        """Inspect and export it: by command, how it ended, and what is wrong."""
        ended = {}
        for name, arguments in {
            "inspect": ("inspect", MODEL, "--json"),
            "export": ("export", MODEL, "-o", BUNDLE, "--json"),
        }.items():
            outcome = run_forked(command(*arguments), folder)
            ended[name] = outcome, complaint(outcome) or _leftovers(folder, outcome.status == 0)
        return ended


def _leftovers(folder: Path, done: bool) -> str:
    """Half a bundle and temporary files, which must not be there."""
    allowed = {MODEL, WEIGHTS, "stdout", "stderr"} | ({BUNDLE} if done else set())
    extra = {path.name for path in folder.iterdir()} - allowed
    return f"left {sorted(extra)}" if extra else ""
