"""Training of the demo's models on scenes that are drawn meanwhile, and their ONNX files: needs torch.

    python benchmarks/demo_model.py [classifier | segmenter | embedder | detector]

Each takes some minutes on two CPU cores; `benchmarks/demo/` has a file for each. The same seed on the same machine with
the same torch gives the same file, to the byte; on other machines rounding may differ.
"""

import argparse
from pathlib import Path

import torch
from demo import classifier, detector, embedder, segmenter
from demo.training import EVALUATED, save, to_onnx, train

from fusioncam.output import prepare_folder

RECIPES = {
    "classifier": classifier.RECIPE,
    "segmenter": segmenter.RECIPE,
    "embedder": embedder.RECIPE,
    "detector": detector.RECIPE,
}


def main(arguments: list[str] | None = None) -> None:
    """Train a model, print how good it is on held-out scenes, and write its file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", nargs="?", choices=RECIPES, default="classifier", help="default: %(default)s")
    parser.add_argument("--output", type=Path, help="where to write the model (default: where the demo reads it)")
    parser.add_argument("--steps", type=int, help="batches of pictures (default: the model's)")
    parser.add_argument("--place-weight", type=float, help="of the loss on where it looks (default: the model's)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and scenes (default: %(default)s)")
    options = parser.parse_args(arguments)
    recipe = RECIPES[options.model]
    weights = {} if options.place_weight is None else {"place_weight": options.place_weight}
    if weights and recipe is segmenter.RECIPE:
        parser.error("the loss of the segmenter has no --place-weight")
    output: Path = options.output or recipe.file
    prepare_folder(output.parent)  # or fail before the training

    # Two runs add up in the same order only with the same number of threads.
    torch.set_num_threads(recipe.threads)
    model = train(recipe, options.steps, options.seed, workers=1, **weights)
    proto = to_onnx(model, recipe.size, recipe.output, recipe.names, recipe.input, recipe.metadata)
    save(proto, output)
    for name, figure in recipe.figures(model, EVALUATED).items():
        print(f"held-out {name}: {figure:.4f}")


if __name__ == "__main__":
    main()
