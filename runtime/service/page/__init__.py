"""The page at `/`: static files, which are a plain client of the service, and what they share with the command line."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, HTTPException, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from fusioncam.output import encode_png
from fusioncam.runtime.demo.scenes import CLASSES, draw_scene, sample_picture
from fusioncam.runtime.explanation import FLAGS, flag_text
from fusioncam.runtime.methods import EVERY, FUSED, GRADIENT, METHODS
from fusioncam.runtime.picture import DEFAULT_COLORMAP, DEFAULT_OPACITY, color_table, method_title

STATIC = Path(__file__).with_name("static")

# Nothing but what the service itself serves may be loaded, run or asked. `blob:` is what the page makes for itself.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
DRAWN = (0, 2), (6, 1), (2, 2), (3, 1)
"""Seeds and numbers of objects of the scenes to try, after the demo's own."""
_PNG = b"\x89PNG"


def mount_page(app: FastAPI, samples: Mapping[str, bytes] | None = None) -> None:
    """Serve the page at `/`, with its files under `/page` and pictures to try under `/samples`.

    None of it needs a bearer token: it says nothing about the models.

    Args:
        app: The service.
        samples: PNG or JPEG files by the names people see; where there are none, `drawn_samples`.
    """
    app.include_router(_router(samples or {}))
    app.mount("/page", _Files(directory=STATIC), name="page")


def settings() -> dict[str, Any]:
    """What the page must not know by itself: colours, opacity, the names of methods, and what flags mean."""
    return {
        "colors": color_table(DEFAULT_COLORMAP).tolist(),
        "opacity": DEFAULT_OPACITY,
        "chosen": METHODS,
        "methods": [{"name": m, "title": method_title(m), "kind": _kind(m)} for m in EVERY],
        "flags": {flag: flag_text(flag) for flag in (*FLAGS, *(f"flat_{m}" for m in EVERY))},
    }


@cache
def drawn_samples() -> dict[str, bytes]:
    """Scenes of the demo's shapes as PNG files, by what is in them; the first is the one `fusioncam demo` explains."""
    scenes = (sample_picture(), *(draw_scene(seed, (384, 384), objects) for seed, objects in DRAWN))
    return {", ".join(CLASSES[c] for c in scene.masks): encode_png(scene.image) for scene in scenes}


class _Files(StaticFiles):
    """The page's own files, with its headers."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(HEADERS)
        return response


def _kind(method: str) -> str:
    return "fused" if method in FUSED else "gradient" if method in GRADIENT else "region"


def _router(samples: Mapping[str, bytes]) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.api_route("/", methods=["GET", "HEAD"])
    def page() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers=HEADERS)

    @router.get("/page/settings")
    def settings_of_page() -> dict[str, Any]:
        return settings()

    @router.get("/samples")
    def listed() -> list[dict[str, str]]:
        return [{"name": name, "url": f"samples/{number}"} for number, name in enumerate(samples or drawn_samples())]

    @router.get("/samples/{number:int}")
    def sample(number: int) -> Response:
        files = list((samples or drawn_samples()).values())
        if not 0 <= number < len(files):
            raise HTTPException(404, f"there is no sample {number}; GET /samples lists them")
        data = files[number]
        return Response(data, media_type="image/png" if data.startswith(_PNG) else "image/jpeg", headers=HEADERS)

    return router
