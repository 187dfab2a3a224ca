"""Notes: what was assumed because neither the model nor the user said it, and what has no effect."""

from collections.abc import Mapping

from fusioncam.manifest import Manifest
from fusioncam.runtime.commands import console

SHOWS_MEAN = "pictures show the mean of all bands as grey; choose one band or three with --bands, such as --bands 4,3,2"


def shows_mean(manifest: Manifest) -> bool:
    """Return whether pictures show the mean of the model's bands, as nobody chose bands."""
    prep = manifest.preprocessing
    return not (prep.takes_photos or prep.kind == "signals" or prep.shown_channels)


def note_assumptions(manifest: Manifest, methods: str | None, quiet: bool) -> None:
    """Say what the explanations of a bundle rest on that nobody asked for.

    Args:
        manifest: The bundle's.
        methods: The methods, as the user gave them; None where the default ones are made.
        quiet: Whether to say nothing.
    """
    if quiet:
        return
    if manifest.preprocessing.origin == "assumed":
        words = manifest.preprocessing.words
        console.complain(f"the model does not say how pictures are prepared: {words} was assumed", "note")
    if shows_mean(manifest):
        console.complain(SHOWS_MEAN, "note")
    if methods is None and not manifest.gradient:
        console.complain("the bundle has no gradient, so of the usual maps only score_cam is made", "note")


def note_without_effect(values: Mapping[str, object], missing: str, quiet: bool) -> None:
    """Say which options that were given have no effect without another one.

    Args:
        values: By option; a false one counts as not given.
        missing: The other option.
        quiet: Whether to say nothing.
    """
    for name, value in values.items():
        if value and not quiet:
            console.complain(f"{name} has no effect without {missing}", "note")
