"""The parts of `/openapi.json` that FastAPI does not find by itself: bodies of two kinds, headers, every error."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi

from fusioncam.runtime.service.protocol.instances import Explanations, Instances, Predictions
from fusioncam.runtime.service.protocol.query import described_parameters
from fusioncam.runtime.service.protocol.schemas import Failure, InferAnswer, InferRequest
from fusioncam.runtime.service.protocol.tensors import HEADER_LENGTH

FILES = ("image", "region", "like")  # of a form
JSON, BINARY, FORM = "application/json", "application/octet-stream", "multipart/form-data"
PNG, WEBP, NPZ = "image/png", "image/webp", "application/x-npz"
Responses = dict[int | str, dict[str, Any]]

_MEANING: Mapping[int, str] = {
    400: "Something about the request is wrong",
    401: "The service's token is missing or wrong",
    403: "A web page of another site asks, and there is no token",
    404: "There is no such model or version",
    406: "The client takes no form of the answer that there is",
    408: "The request did not arrive in time",
    409: "The model cannot be loaded as the disk has it; nothing has changed",
    413: "The body is too large, as it came or unpacked",
    415: "The body's type or encoding is not taken",
    503: "The service is busy; the header Retry-After says when to ask again",
    504: "The explanation was not done in time",
    500: "Something went wrong inside the service",
}
_REQUEST_ID = {
    "description": "The request's own X-Request-Id, or a new one; the logs have it, too.",
    "schema": {"type": "string"},
}
_BYTES = {"type": "string", "format": "binary"}
_LENGTH = "Bytes of JSON at the beginning of the body, where binary tensors follow"
_EXAMPLE = {
    "inputs": [{"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": ["BASE64 OF A JPEG OR PNG FILE"]}],
    "parameters": {"method": "fusion_cam", "budget": "auto", "verify": True},
}

INFER_REQUEST: dict[str, Any] = {
    "parameters": [
        {
            "name": HEADER_LENGTH,
            "in": "header",
            "required": False,
            "description": f"{_LENGTH}; 0: the whole body is one photo, as it is with `image/jpeg`.",
            "schema": {"type": "integer", "minimum": 0},
        },
        {
            "name": "Content-Encoding",
            "in": "header",
            "required": False,
            "description": "How the whole body is packed.",
            "schema": {"type": "string", "enum": ["identity", "gzip", "deflate"]},
        },
        *described_parameters(),
    ],
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": {"$ref": "#/components/schemas/InferRequest"}, "example": _EXAMPLE},
            BINARY: {"schema": _BYTES},
            "image/*": {"schema": _BYTES},
            FORM: {"schema": {"type": "object", "required": ["image"], "properties": dict.fromkeys(FILES, _BYTES)}},
        },
    },
}
INFER_ANSWER: dict[str, Any] = {
    "description": "The outputs; binary ones follow the JSON in the order they are listed",
    "headers": {HEADER_LENGTH: {"description": f"{_LENGTH}.", "schema": {"type": "integer"}}},
    "content": {
        JSON: {"schema": {"$ref": "#/components/schemas/InferAnswer"}},
        **{kind: {"schema": _BYTES} for kind in (BINARY, PNG, WEBP, NPZ)},
    },
}
NO_MAP = {"description": "Accept asks for a picture or for maps alone, and `explain_if` does not hold; headers say why"}


def errors(*statuses: int) -> Responses:
    """Return the responses of these error statuses."""
    return {status: {"description": _MEANING[status], "model": Failure} for status in statuses}


INFER: dict[str, Any] = {
    "methods": ["POST"],
    "response_class": Response,
    "openapi_extra": INFER_REQUEST,
    "responses": {200: INFER_ANSWER, 204: NO_MAP, **errors(400, 401, 403, 404, 406, 408, 413, 415, 500, 503, 504)},
}

_INSTANCES = {JSON: {"schema": {"$ref": "#/components/schemas/Instances"}}}
_OF_PHOTOS = {kind: INFER_REQUEST["requestBody"]["content"][kind] for kind in ("image/*", FORM)}
_PICTURES = {kind: {"schema": _BYTES} for kind in (PNG, WEBP, NPZ)}


def _of_instances(answer: str, others: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a route of KServe's first protocol, whose answer has a schema of this name."""
    content = {JSON: {"schema": {"$ref": f"#/components/schemas/{answer}"}}, **others}
    body = {"required": True, "content": _INSTANCES | _OF_PHOTOS}
    return {
        **INFER,
        "openapi_extra": {**INFER_REQUEST, "requestBody": body},
        "responses": {**INFER["responses"], 200: {"description": "A result for each instance", "content": content}},
    }


PREDICT, EXPLAIN = _of_instances("Predictions", {}), _of_instances("Explanations", _PICTURES)

STREAM: dict[str, Any] = {
    **INFER,
    "responses": {
        **INFER["responses"],
        200: {
            "description": "Server-sent events, the data of each one line of JSON. `maps`: a preliminary answer, with "
            "the outputs that changed. `answer`: the last one, with those that changed since. `error`, in place of it: "
            "an error and its status. Tensors of numbers are in base64, as their little-endian bytes.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
    },
}


def describe(app: FastAPI, guarded: bool) -> None:
    """Complete `/openapi.json` for every route of an application.

    Args:
        app: The application, with all its routes.
        guarded: Whether there is a token.
    """

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(
                get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes),
                guarded,
            )
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _completed(said: dict[str, Any], guarded: bool) -> dict[str, Any]:
    parts = said.setdefault("components", {})
    schemas = parts.setdefault("schemas", {})
    for model in (InferRequest, InferAnswer, Failure, Instances, Predictions, Explanations):
        described = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(described.pop("$defs", {}))
        schemas[model.__name__] = described
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own; this service never answers with them
        schemas.pop(name, None)
    if guarded:
        parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, operations in said["paths"].items():
        for operation in operations.values():
            responses = operation["responses"]
            responses.pop("422", None)
            for response in responses.values():
                response.setdefault("headers", {})["X-Request-Id"] = _REQUEST_ID
            if "503" in responses:
                after = {"description": "Seconds.", "schema": {"type": "integer"}}
                responses["503"]["headers"]["Retry-After"] = after
            if guarded and "401" in responses and not path.startswith("/v2/health"):
                operation["security"] = [{"token": []}]
    return said
