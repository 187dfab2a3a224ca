"""The page at `/`: static files, which are a plain client of the service, and the settings that they need."""

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

# The page may load, run and ask nothing but what the service itself serves. `blob:` holds what the page makes.
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
"""Seeds and numbers of objects of the sample scenes, after that of the demo."""


def mount_page(app: FastAPI) -> None:
    """Serve the page at `/`, with its files under `/page` and pictures to try under `/samples`.

    The page needs no bearer token: it says nothing about the models.

    Args:
        app: The service.
    """
    app.include_router(_router())
    app.mount("/page", _Files(directory=STATIC), name="page")


def settings() -> dict[str, Any]:
    """Return the settings of the page: colours, opacity, the names of methods, and the texts of flags."""
    return {
        "colors": color_table(DEFAULT_COLORMAP).tolist(),
        "opacity": DEFAULT_OPACITY,
        "chosen": METHODS,
        "methods": [{"name": m, "title": method_title(m), "kind": _kind(m)} for m in EVERY],
        "flags": {flag: flag_text(flag) for flag in (*FLAGS, *(f"flat_{m}" for m in EVERY))},
    }


@cache
def drawn_samples() -> dict[str, bytes]:
    """Return scenes of the demo's shapes as PNG files, by their objects; the first is that of `fusioncam demo`."""
    scenes = (sample_picture(), *(draw_scene(seed, (384, 384), objects) for seed, objects in DRAWN))
    return {", ".join(CLASSES[c] for c in scene.masks): encode_png(scene.image) for scene in scenes}


class _Files(StaticFiles):
    """The page's own files, with its headers."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """Return the response with a file."""
        response = super().file_response(*args, **kwargs)
        response.headers.update(HEADERS)
        return response


def _kind(method: str) -> str:
    return "fused" if method in FUSED else "gradient" if method in GRADIENT else "region"


def _router() -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.api_route("/", methods=["GET", "HEAD"])
    def page() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers=HEADERS)

    @router.get("/page/settings")
    def settings_of_page() -> dict[str, Any]:
        return settings()

    @router.get("/samples")
    def listed() -> list[dict[str, str]]:
        return [{"name": name, "url": f"samples/{number}"} for number, name in enumerate(drawn_samples())]

    @router.get("/samples/{number:int}")
    def sample(number: int) -> Response:
        files = list(drawn_samples().values())
        if not 0 <= number < len(files):
            raise HTTPException(404, f"there is no sample {number}; GET /samples lists them")
        return Response(files[number], media_type="image/png", headers=HEADERS)

    return router
