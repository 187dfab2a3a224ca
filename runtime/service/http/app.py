"""The service as a FastAPI application: its routes."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import fusioncam
from fusioncam.errors import FusionCamError
from fusioncam.runtime.arguments import quote
from fusioncam.runtime.service.errors import CLIENT_GONE, error_response
from fusioncam.runtime.service.http.infer_handler import InferHandler
from fusioncam.runtime.service.http.middleware import RequestMiddleware
from fusioncam.runtime.service.http.repository_routes import add_repository_routes
from fusioncam.runtime.service.http.v1_routes import add_v1_routes
from fusioncam.runtime.service.protocol import metadata, openapi, schemas
from fusioncam.runtime.service.repository.model_repository import ModelRepository
from fusioncam.runtime.service.served_model import ServedModel
from fusioncam.runtime.service.service import Service
from fusioncam.runtime.service.settings import Settings

ABOUT = (
    "Which pixels speak for a class: Grad-CAM, Score-CAM, Fusion-CAM and their family, by the Open Inference Protocol "
    '(version 2, with the binary tensor extension). Errors are `{"error": "..."}`, in one line.'
)
OF_MODEL = "/v2/models/{model}"
GUARD = (400, 401, 403)  # statuses of `RequestMiddleware`

ModelRoute = Callable[[Request, ServedModel], Any]


def make_app(service: Service, crowded: Callable[[], bool] = lambda: False) -> FastAPI:
    """Return the application that answers for a service; it closes the service when it ends.

    Args:
        service: The service.
        crowded: Tells whether there are as many connections as the process may have.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await service.close()

    app = _new_app(service.settings, lifespan)
    app.add_exception_handler(HTTPException, _answer_error)
    app.add_exception_handler(FusionCamError, _answer_error)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    app.add_middleware(
        RequestMiddleware,
        token=service.token,
        metrics=service.metrics,
        models=service.repository.names,
        crowded=crowded,
    )
    _add_server_routes(app, service)
    add_repository_routes(app, service)
    handler = InferHandler(service.settings, service.metrics, service.runner)
    _add_model_routes(app, service, handler)
    add_v1_routes(app, service, handler)
    if service.settings.page:
        from fusioncam.runtime.service.page import mount_page

        mount_page(app, service.settings)
    openapi.describe(app, service.token is not None)
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


async def _answer_nobody(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)


def _add_server_routes(app: FastAPI, service: Service) -> None:
    @app.get("/v2", summary="What this is", tags=["server"], responses=openapi.errors(*GUARD))
    async def server() -> schemas.ServerInfo:
        return metadata.SERVER

    @app.get("/v2/health/live", summary="Is the process alive?", tags=["server"], responses=openapi.errors(400, 503))
    async def live() -> schemas.Live:
        return schemas.Live(live=True)

    @app.get("/v2/health/ready", summary="Are requests taken?", tags=["server"], responses=openapi.errors(400, 503))
    async def ready() -> schemas.Ready:
        for model in service.repository:
            model.check_ready()
        return schemas.Ready(ready=True)

    @app.get("/v2/models/stats", summary="Statistics of all models", tags=["server"], responses=openapi.errors(*GUARD))
    def statistics() -> dict[str, Any]:
        return metadata.statistics(service.repository.newest(), service.metrics)

    @app.get(
        "/metrics",
        summary="Figures for Prometheus",
        tags=["server"],
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **openapi.errors(*GUARD)},
    )
    def shown_metrics() -> Response:
        return Response(service.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


def _add_model_routes(app: FastAPI, service: Service, handler: InferHandler) -> None:
    settings, metrics, repository = service.settings, service.metrics, service.repository

    async def described(_: Request, model: ServedModel) -> schemas.ModelInfo:
        return metadata.metadata(model, settings, repository.versions(model.name))

    async def ready(_: Request, model: ServedModel) -> schemas.ModelReady:
        model.check_ready()
        return schemas.ModelReady(name=model.name, ready=True)

    async def config(_: Request, model: ServedModel) -> dict[str, Any]:
        return metadata.config(model, settings)

    async def statistics(_: Request, model: ServedModel) -> dict[str, Any]:
        return await run_in_threadpool(metadata.statistics, [model], metrics)

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
        _add_both(app, repository, ending, route, {"summary": summary, "tags": ["models"], **options})
    # curl -T photo.jpg, which is the shortest way to send a file, puts it.
    for ending in ("/infer", "/infer_stream"):
        _add_both(app, repository, ending, routes[ending][0], {"methods": ["PUT"], "include_in_schema": False})


def _add_both(
    app: FastAPI, repository: ModelRepository, ending: str, route: ModelRoute, options: dict[str, Any]
) -> None:
    """Add a route of a model's newest version, and one of each version."""

    async def newest(request: Request, model: str) -> Any:
        return await route(request, repository.find(model))

    async def of_version(request: Request, model: str, version: str) -> Any:
        return await route(request, repository.find(model, version))

    app.add_api_route(OF_MODEL + ending, newest, **options)
    app.add_api_route(f"{OF_MODEL}/versions/{{version}}{ending}", of_version, **options)
