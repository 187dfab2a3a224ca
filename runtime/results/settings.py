"""The settings that decide results: those of an earlier run must be equal where a run continues it."""

from dataclasses import asdict, fields
from typing import Any

import fusioncam
from fusioncam.manifest import MANIFEST, read_manifest, recorded_digest
from fusioncam.output import plain
from fusioncam.runtime.budget import budget_json
from fusioncam.runtime.picture_inputs import input_digests
from fusioncam.runtime.results.making import MakingConfig
from fusioncam.runtime.targets.kinds import Target


def settings_of(config: MakingConfig, methods: tuple[str, ...]) -> dict[str, Any]:
    """Return all that decides the results of a photo, ready for JSON; the hardware may differ.

    Args:
        config: The config.
        methods: The methods, the default ones by name.
    """
    settings: dict[str, Any] = plain(
        {
            "bundles": [recorded_digest(bundle) for bundle in config.bundles],
            "methods": methods,
            "budget": budget_json(config.budget),
            "smooth": config.smooth,
            "classes": config.selection.classes,
            **({"targets": [_words(t) for t in config.selection.targets]} if config.selection.targets else {}),
            "versus": config.selection.versus,
            "most_probable": config.selection.top,
            "above": config.selection.above,
            "verify": config.verify,
            "resolution": config.output.resolution,
            "separate": config.output.separate,
            "panel": config.output.panel,
            **({} if config.size is None else {"size": config.size}),
            **({} if config.bands is None else {"bands": config.bands}),
            **({"inputs": _inputs(config)} if config.inputs else {}),
            **({"seed": config.seed} if config.seed else {}),
            **({} if config.levels == "own" else {"levels": config.levels}),
            **asdict(config.output.draw),
            "version": fusioncam.__version__,
        }
    )
    return settings


def _inputs(config: MakingConfig) -> dict[str, str]:
    return input_digests(read_manifest(config.bundles[0] / MANIFEST), config.inputs)


def _words(target: Target) -> str:
    """Return a target as text, without what is left at its default."""
    named = [f"{f.name}={getattr(target, f.name)}" for f in fields(target) if getattr(target, f.name) != f.default]
    return f"{type(target).__name__}({', '.join(named)})"


def changed_settings(theirs: Any, ours: dict[str, Any]) -> str:
    """Return the first differences between the settings of an earlier run and of this one, as text."""
    theirs = theirs if isinstance(theirs, dict) else {}
    changes = [
        f"{key} was {_short(theirs.get(key))}, is now {_short(ours.get(key))}"
        for key in sorted({*theirs, *ours})
        if theirs.get(key) != ours.get(key)
    ]
    return "; ".join(changes[:3]) + (f"; and {len(changes) - 3} more" if len(changes) > 3 else "")


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
    text = text or "none"
    return text if len(text) <= 60 else text[:57] + "..."
