"""The flags that every explanation by a bundle has."""

from collections.abc import Sequence

from fusioncam.manifest import Manifest


def bundle_flags(manifests: Sequence[Manifest]) -> tuple[str, ...]:
    """Return the flags that every explanation by these bundles has, those of `Explanation.flags`.

    Evidence that reaches the scores past one layer may be seen by another: all branches of a model miss nothing.

    Args:
        manifests: Of bundles of one model, each with a layer of its own.
    """
    first, layers = manifests[0], [m.layer for m in manifests]
    names = {layer.name for layer in layers}
    said = {
        "assumed_preprocessing": first.preprocessing.origin == "assumed",
        "no_gradient": not all(m.gradient for m in manifests),
        "logits_out_of_reach": first.source.reach == "out_of_reach",
        "doubtful_logits": first.source.reach == "doubtful",
        "bypassed_layer": any(x.bypassed and not (x.branches and names.issuperset(x.branches)) for x in layers),
        "early_layer": any(x.early for x in layers),
    }
    accepted = [m.drift.worst for m in manifests if m.drift is not None and m.drift.accepted]
    drifting = [f"drifting_scores={min(accepted):.3f}"] if accepted else []
    return (*(flag for flag, so in said.items() if so), *drifting)
