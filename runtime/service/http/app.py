"""The service as a FastAPI application: its routes."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

import fusioncam
from fusioncam.errors import BusyError, FusionCamError
from fusioncam.runtime.arguments import quote
from fusioncam.runtime.service.batching.batcher import Batcher
from fusioncam.runtime.service.errors import RETRY_AFTER, error_response
from fusioncam.runtime.service.http.infer_handler import InferHandler
from fusioncam.runtime.service.http.middleware import RequestMiddleware
from fusioncam.runtime.service.monitoring.metrics import Metrics
from fusioncam.runtime.service.protocol import metadata, openapi, schemas
from fusioncam.runtime.service.request_runner import RequestRunner
from fusioncam.runtime.service.served_model import VERSION, ServedModel
from fusioncam.runtime.service.settings import Settings

ABOUT = (
    "Which pixels speak for a class: Grad-CAM, Score-CAM, Fusion-CAM and their family, by the Open Inference Protocol "
    '(version 2, with the binary tensor extension). Errors are `{"error": "..."}`, in one line.'
)
OF_MODEL = "/v2/models/{model}"
GUARD = (400, 401, 403)  # statuses of `RequestMiddleware`

ModelRoute = Callable[[Request, ServedModel], Any]


def make_app(
    batchers: Mapping[str, Batcher],
    settings: Settings | None = None,
    metrics: Metrics | None = None,
    crowded: Callable[[], bool] = lambda: False,
) -> FastAPI:
    """Return the application that answers for some models; it closes their batchers when it ends.

    Args:
        batchers: The batchers by the names of the models.
        settings: Limits, and the token.
        metrics: The observer of the batchers, so that all metrics are in one place.
        crowded: Tells whether there are as many connections as the process may have.
    """
    settings, metrics = settings or Settings(), metrics or Metrics()
    models = {name: ServedModel(name, batcher) for name, batcher in batchers.items()}
    runner = RequestRunner(settings, metrics)
    handler = InferHandler(settings, metrics, runner)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        for batcher in batchers.values():
            await batcher.close()
        runner.close()

    app = _new_app(settings, lifespan)
    app.add_exception_handler(HTTPException, _answer_error)
    app.add_exception_handler(FusionCamError, _answer_error)
    token = None if settings.token is None else settings.token.get_secret_value()
    app.add_middleware(RequestMiddleware, token=token, metrics=metrics, models=models, crowded=crowded)
    _add_server_routes(app, models, metrics)
    _add_model_routes(app, models, settings, metrics, handler)
    if settings.page:
        from fusioncam.runtime.service.page import mount_page

        mount_page(app)
    openapi.describe(app, token is not None)
    return app


def _new_app(settings: Settings, lifespan: Callable[[FastAPI], Any]) -> FastAPI:
    """Return an empty application; with fastapi-offline, which brings the scripts of `/docs`, they need no network."""
    options: dict[str, Any] = {
        "title": "fusioncam",
        "version": fusioncam.__version__,
        "description": ABOUT,
        "lifespan": lifespan,
        "redirect_slashes": False,
        "redoc_url": None,
    }
    if not settings.docs:
        return FastAPI(docs_url=None, **options)
    if find_spec("fastapi_offline") is None:
        return FastAPI(**options)
    offline: FastAPI = import_module("fastapi_offline").FastAPIOffline(**options)
    return offline


async def _answer_error(request: Request, error: Exception) -> Response:
    """Answer an error; for unknown routes with more help than Starlette gives."""
    if isinstance(error, HTTPException) and error.status_code == 404 and error.detail == "Not Found":
        error = HTTPException(404, f"there is nothing at {quote(request.url.path)}; /docs lists what there is")
    elif isinstance(error, HTTPException) and error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        message = f"{quote(request.url.path)} does not take {quote(request.method)}; use {allowed}"
        error = HTTPException(405, message, error.headers)
    return error_response(error)


def _add_server_routes(app: FastAPI, models: Mapping[str, ServedModel], metrics: Metrics) -> None:
    @app.get("/v2", summary="What this is", tags=["server"], responses=openapi.errors(*GUARD))
    async def server() -> schemas.ServerInfo:
        return metadata.SERVER

    @app.get("/v2/health/live", summary="Is the process alive?", tags=["server"], responses=openapi.errors(400, 503))
    async def live() -> schemas.Live:
        return schemas.Live(live=True)

    @app.get("/v2/health/ready", summary="Are requests taken?", tags=["server"], responses=openapi.errors(400, 503))
    async def ready() -> schemas.Ready:
        for model in models.values():
            _check_ready(model)
        return schemas.Ready(ready=True)

    @app.post("/v2/repository/index", summary="The models there are", tags=["server"], responses=openapi.errors(*GUARD))
    async def index() -> list[schemas.IndexEntry]:
        return metadata.index(models)

    @app.get("/v2/models/stats", summary="Statistics of all models", tags=["server"], responses=openapi.errors(*GUARD))
    def statistics() -> dict[str, Any]:
        return metadata.statistics(models, metrics)

    @app.get(
        "/metrics",
        summary="Figures for Prometheus",
        tags=["server"],
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **openapi.errors(*GUARD)},
    )
    def shown_metrics() -> Response:
        return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


def _check_ready(model: ServedModel) -> None:
    if not model.batcher.ready:
        raise BusyError(f"model {model.name!r} takes no requests: it is shutting down, or has failed", RETRY_AFTER)


def _add_model_routes(
    app: FastAPI, models: Mapping[str, ServedModel], settings: Settings, metrics: Metrics, handler: InferHandler
) -> None:
    async def described(_: Request, model: ServedModel) -> schemas.ModelInfo:
        return metadata.metadata(model, settings)

    async def ready(_: Request, model: ServedModel) -> schemas.ModelReady:
        _check_ready(model)
        return schemas.ModelReady(name=model.name, ready=True)

    async def config(_: Request, model: ServedModel) -> dict[str, Any]:
        return metadata.config(model, settings)

    async def statistics(_: Request, model: ServedModel) -> dict[str, Any]:
        return await run_in_threadpool(metadata.statistics, [model.name], metrics)

    errors = openapi.errors(*GUARD, 404)
    read: dict[str, Any] = {"methods": ["GET"], "responses": errors}
    routes: dict[str, tuple[ModelRoute, str, dict[str, Any]]] = {
        "": (described, "A model's inputs and outputs", read | {"response_model": schemas.ModelInfo}),
        "/ready": (
            ready,
            "Does a model take requests?",
            read | {"response_model": schemas.ModelReady, "responses": errors | openapi.errors(503)},
        ),
        "/config": (config, "A model's configuration, its labels, methods, and limits", read),
        "/stats": (statistics, "Statistics of a model", read),
        "/infer": (handler.answer, "Explain pictures", openapi.INFER),
        "/infer_stream": (handler.stream, "Explain a picture, and show its maps while they are made", openapi.STREAM),
    }
    for ending, (route, summary, options) in routes.items():
        _add_both(app, models, ending, route, {"summary": summary, "tags": ["models"], **options})


def _add_both(
    app: FastAPI, models: Mapping[str, ServedModel], ending: str, route: ModelRoute, options: dict[str, Any]
) -> None:
    """Add a route of a model, and of its only version."""

    async def newest(request: Request, model: str) -> Any:
        return await of_version(request, model, VERSION)

    async def of_version(request: Request, model: str, version: str) -> Any:
        if model not in models:
            raise HTTPException(404, f"there is no model {quote(model)}; there are {', '.join(models)}")
        if version != VERSION:
            raise HTTPException(404, f"model {model!r} has version {VERSION}, not {quote(version)}")
        return await route(request, models[model])

    app.add_api_route(OF_MODEL + ending, newest, **options)
    app.add_api_route(f"{OF_MODEL}/versions/{{version}}{ending}", of_version, **options)
