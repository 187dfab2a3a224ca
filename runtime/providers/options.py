"""Options of onnxruntime's providers that suit how a graph is used."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fusioncam.runtime.providers.naming import name_and_options, spec_of
from fusioncam.runtime.providers.spec import Options, Provider, Use

# For features that onnxruntime refuses for some graphs, by words of its error: the use without the feature.
REFUSALS: Mapping[str, Options] = {
    "cannot use the graph capture feature": {"capture": False},  # a node is left to another provider
    "with associated profiles": {"shapes": {}},  # TensorRT takes parts of the graph, whose inputs are other tensors
}


def with_defaults(providers: Sequence[Provider], use: Use) -> list[Provider]:
    """Return the providers with the options that suit the use; the user's own options stay.

    Args:
        providers: By full name, in order of preference.
        use: The use of the graph.
    """
    merged: list[Provider] = []
    for provider in providers:
        name, own = name_and_options(provider)
        defaults = spec_of(name).defaults
        if defaults is None:
            merged.append(provider)
            continue
        merged.append((name, as_text(defaults(use)) | own))
        use = replace(use, capture=False)  # only the first provider: two cannot capture the same stream
    return merged


def as_text(options: Options) -> Options:
    """Return options as onnxruntime takes them, without those that are None."""
    return {name: str(value) for name, value in options.items() if value is not None}


def without_refused(use: Use, refusal: str) -> Use | None:
    """Return the use without the feature that an error of onnxruntime refuses; None where it refuses none.

    Args:
        use: The use so far.
        refusal: The text of the error.
    """
    for words, less in REFUSALS.items():
        if words in refusal and (rest := replace(use, **less)) != use:
            return rest
    return None
