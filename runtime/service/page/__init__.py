"""The page at `/`: static files, which are a plain client of the service, and the settings that they need."""

from mimetypes import guess_type
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, HTTPException, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from fusioncam.runtime.arguments import quote
from fusioncam.runtime.flags import FLAGS, flag_text
from fusioncam.runtime.methods import EVERY, FUSED, GRADIENT, METHODS
from fusioncam.runtime.picture import CAPTION, DEFAULT_COLORMAP, DEFAULT_OPACITY, color_table, method_title
from fusioncam.runtime.picture.marks import COLORS
from fusioncam.runtime.service.page.samples import Sample, Samples
from fusioncam.runtime.service.settings import Settings

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


def mount_page(app: FastAPI, settings: Settings) -> None:
    """Serve the page at `/`, with its files under `/page` and pictures to try under `/samples`.

    The page needs no bearer token: it says nothing about the models. The pictures need it, see `access.GUARDED`.

    Args:
        app: The service.
        settings: The settings of the service.
    """
    app.include_router(_router(Samples(settings)))
    app.mount("/page", _Files(directory=STATIC), name="page")


def page_settings() -> dict[str, Any]:
    """Return the settings of the page: colours of maps and marks, captions, opacity, methods, and texts of flags."""
    return {
        "colors": color_table(DEFAULT_COLORMAP).tolist(),
        "caption": CAPTION,
        "marks": COLORS,
        "opacity": DEFAULT_OPACITY,
        "chosen": METHODS,
        "methods": [{"name": m, "title": method_title(m), "kind": _kind(m)} for m in EVERY],
        "flags": {flag: flag_text(flag) for flag in (*FLAGS, *(f"flat_{m}" for m in EVERY))},
    }


class _Files(StaticFiles):
    """The page's own files, with its headers."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """Return the response with a file."""
        response = super().file_response(*args, **kwargs)
        response.headers.update(HEADERS)
        return response


def _kind(method: str) -> str:
    return "fused" if method in FUSED else "gradient" if method in GRADIENT else "region"


def _router(samples: Samples) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.api_route("/", methods=["GET", "HEAD"])
    def page() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers=HEADERS)

    @router.get("/page/settings")
    def settings_of_page() -> dict[str, Any]:
        return page_settings()

    def sample(number: str) -> Sample:
        found = {str(n): sample for n, sample in enumerate(samples.all())}
        if number not in found:
            raise HTTPException(404, f"there is no sample {quote(number)}; GET /samples lists them")
        return found[number]

    @router.get("/samples")
    def listed() -> list[dict[str, str]]:
        found = enumerate(samples.all())
        return [{"name": s.name, "url": f"samples/{n}", "thumbnail": f"samples/{n}/thumbnail"} for n, s in found]

    @router.get("/samples/{number}")
    def file(number: str) -> Response:
        found = sample(number)
        try:
            data = found.read()
        except OSError as error:
            raise HTTPException(404, f"sample {number} is gone: {error.strerror}") from error
        # Browsers read a picture by its type. Drawn scenes are PNG files, and their names have no suffix.
        return Response(data, media_type=guess_type(found.name)[0] or "image/png", headers=HEADERS)

    @router.get("/samples/{number}/thumbnail")
    def thumbnail(number: str) -> Response:
        return Response(sample(number).thumbnail, media_type="image/png", headers=HEADERS)

    return router
