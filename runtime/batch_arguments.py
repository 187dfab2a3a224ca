"""The pictures of a batch, each with what is asked of it."""

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any

from fusioncam.errors import UsageError
from fusioncam.input_values import InputValues
from fusioncam.runtime.arguments import entries
from fusioncam.runtime.engine import Asked, TargetChoice
from fusioncam.runtime.photos.model_input import ImageLike

Targets = Sequence[Asked] | TargetChoice


def paired(
    images: Iterable[ImageLike],
    asked: TargetChoice | Any,
    inputs: InputValues | Sequence[InputValues | None] | None,
    name: str,
    check: Callable[[Any], Asked],
) -> Iterable[tuple[ImageLike, Targets, InputValues | None]]:
    """Return each picture with its targets and further inputs.

    Args:
        images: The pictures; a generator stays one where one target and one mapping of inputs are for all.
        asked: A target for all pictures, a function that chooses, or an entry for each, see `Explainer.explain_batch`.
        inputs: Further inputs of all pictures, or an entry for each.
        name: The argument that `asked` came by, for errors.
        check: Checks a target, now.

    Raises:
        UsageError: There are more or fewer entries than pictures, or a target does not fit.
    """
    of_each, lists = entries(asked), {}
    if of_each is not None:
        lists[name] = of_each
    if isinstance(inputs, Sequence):
        lists["inputs"] = list(inputs)
    if lists:
        images = list(images)
    for argument, listed in lists.items():
        if len(listed) != len(images):  # type: ignore[arg-type]
            raise UsageError(f"{len(listed)} entries in {argument} for {len(images)} pictures; give one for each")  # type: ignore[arg-type]
    if of_each is None:
        targets: Iterable[Targets] = repeat(asked if callable(asked) else [check(asked)])
    else:
        several = [entries(of_image) for of_image in of_each]
        targets = [
            [check(one) for one in ([of_image] if some is None else some)]
            for of_image, some in zip(of_each, several, strict=True)
        ]
    return zip(images, targets, lists.get("inputs", repeat(inputs)), strict=False)
