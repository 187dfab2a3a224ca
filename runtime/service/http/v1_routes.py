"""The routes of KServe's first protocol: `:predict` and `:explain`."""

from typing import Any

from fastapi import FastAPI, Request, Response

from fusioncam.runtime.service.http.answer_forms import InstancesForm
from fusioncam.runtime.service.http.infer_handler import Dialect, InferHandler
from fusioncam.runtime.service.protocol import openapi, schemas
from fusioncam.runtime.service.protocol.instances import read_instances
from fusioncam.runtime.service.protocol.openapi import JSON
from fusioncam.runtime.service.service import Service

MODELS = "/v1/models"
PREDICT = Dialect(read_instances, {JSON: InstancesForm(figures_only=True)}, ("class_index",))
EXPLAIN = Dialect(read_instances, {JSON: InstancesForm(figures_only=False)})


def add_v1_routes(app: FastAPI, service: Service, handler: InferHandler) -> None:
    """Add the routes of the first protocol to the application of a service."""
    repository, errors = service.repository, openapi.errors(400, 401, 403)
    of_model: dict[str, Any] = {"tags": ["KServe v1"], "responses": errors | openapi.errors(404, 503)}

    @app.get(MODELS, summary="The models that take requests", tags=["KServe v1"], responses=errors)
    async def models() -> schemas.ModelNames:
        return schemas.ModelNames(models=[model.name for model in repository.newest() if model.batcher.ready])

    @app.get(MODELS + "/{model}", summary="Does a model take requests?", **of_model)
    async def ready(model: str) -> schemas.ModelReady:
        repository.find(model).check_ready()
        return schemas.ModelReady(name=model, ready=True)

    async def predict(request: Request, model: str) -> Response:
        return await handler.answer(request, repository.find(model), PREDICT)

    async def explain(request: Request, model: str) -> Response:
        return await handler.answer(request, repository.find(model), EXPLAIN)

    for verb, route, summary, options in (
        ("predict", predict, "Predict the classes of instances", openapi.PREDICT),
        ("explain", explain, "Explain instances", openapi.EXPLAIN),
    ):
        path = f"{MODELS}/{{model}}:{verb}"
        app.add_api_route(path, route, summary=summary, tags=["KServe v1"], **options)
        app.add_api_route(path, route, methods=["PUT"], include_in_schema=False)  # curl -T photo.jpg
