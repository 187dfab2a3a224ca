"""`fusioncam check`: a bundle against its source."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fusioncam import supervisor
from fusioncam.runtime.commands import console
from fusioncam.runtime.commands.options import SECONDS, Bundle, Json, MemoryLimit, TimeLimit


def check(
    bundle: Bundle,
    source: Annotated[Path | None, typer.Option(help="The model it was made from [where it was].")] = None,
    photos: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Photos to measure the drift of fp16 or int8 scores on.")
    ] = None,
    time_limit: TimeLimit = SECONDS,
    memory_limit: MemoryLimit = None,
    json: Json = False,
) -> int:
    """Compare a bundle with its source: equal logits, a gradient that agrees with central differences, little drift.

    Drift is that of Score-CAM's map where the masked passes are in fp16 or int8.
    """
    supervisor.limit(str(bundle), time_limit, memory_limit)
    from fusioncam.export import check as check_bundle
    from fusioncam.export.sessions import silence_default_logger

    silence_default_logger()
    calibration = None
    if photos is not None:
        from fusioncam.runtime.photos.calibration import photos_in

        calibration = photos_in(photos)
    findings = check_bundle(bundle, source, calibration)
    if json:
        console.say_json([{**asdict(f), "ok": f.ok} for f in findings])
    else:
        for f in findings:
            console.say(f"{'ok  ' if f.ok else 'FAIL'}  {f.what}: {f.error:.2g} (limit {f.limit:.2g})")
    return console.DONE if all(f.ok for f in findings) else console.FAILED
