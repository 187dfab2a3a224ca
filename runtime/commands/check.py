"""`fusioncam check`: a bundle against its source."""

from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fusioncam import supervisor
from fusioncam.runtime.commands import console
from fusioncam.runtime.commands.options import SECONDS, AcceptDrift, Bundle, Json, MemoryLimit, TimeLimit

if TYPE_CHECKING:
    from fusioncam.export.precision.drift import Finding


def check(
    bundle: Bundle,
    source: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="The model it was made from [where it was].")
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Photos to measure the drift of fp16 or int8 scores on.")
    ] = None,
    accept_drift: AcceptDrift = False,
    time_limit: TimeLimit = SECONDS,
    memory_limit: MemoryLimit = None,
    json: Json = False,
) -> int:
    """Compare a bundle with its source: equal logits, a gradient that agrees with central differences, little drift.

    Drift is that of maps where the masked passes are in fp16 or int8: the correlation r with maps by float32 scores.
    """
    supervisor.limit(str(bundle), time_limit, memory_limit)
    from fusioncam.export import check as check_bundle
    from fusioncam.export.sessions import silence_default_logger

    silence_default_logger()
    calibration = None
    if photos is not None:
        from fusioncam.runtime.photos.calibration import photos_in

        calibration = photos_in(photos)
    findings = check_bundle(bundle, source, calibration, accept_drift)
    if json:
        console.say_json([{**asdict(f), "ok": f.ok} for f in findings])
    else:
        for _, together in groupby(enumerate(findings), lambda numbered: numbered[1].group or numbered[0]):
            _print_together([finding for _, finding in together])
    if photos is None and any(f.at_least for f in findings):
        console.complain("how far maps drift on other photos is unknown; measure it with --photos FOLDER", "note")
    return console.DONE if all(f.ok for f in findings) else console.FAILED


def _print_together(findings: "list[Finding]") -> None:
    """Print the findings about one thing, mostly a single one, in a line."""
    texts = []
    for f in findings:
        number = "{:.4f} (at least {:g})" if f.at_least else "{:.2g} (limit {:.2g})"
        texts.append(f"{f.part} {number.format(f.error, f.limit)}".strip())
    mark = "FAIL" if not all(f.ok for f in findings) else "ok  " if all(f.within for f in findings) else "over"
    console.say(f"{mark}  {findings[0].group or findings[0].what}: {', '.join(texts)}")
