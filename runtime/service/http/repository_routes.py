"""The routes of the repository: which models there are, and changes of them."""

import time
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from pydantic_core import from_json
from starlette.exceptions import HTTPException

from fusioncam.errors import UsageError
from fusioncam.runtime.service.protocol import openapi, schemas
from fusioncam.runtime.service.repository.model_repository import Change
from fusioncam.runtime.service.request_runner import in_time
from fusioncam.runtime.service.service import Service

OF_MODEL = "/v2/repository/models/{model}"
MOST = 1 << 16  # bytes of a body


def _body(member: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of a body that may be missing, and its only member."""
    described = {"type": "object", "properties": {member: schema}}
    return {"requestBody": {"required": False, "content": {openapi.JSON: {"schema": described}}}}


READY = _body("ready", {"type": "boolean", "description": "Whether models that take no requests are left out."})
PARAMETERS = _body(
    "parameters", {"type": "object", "description": "Only Triton's unload_dependents; it has no effect."}
)


def add_repository_routes(app: FastAPI, service: Service) -> None:
    """Add the routes of the repository to the application of a service."""
    errors = openapi.errors(400, 401, 403, 408, 413)
    listed: dict[str, Any] = {"tags": ["repository"], "responses": errors, "openapi_extra": READY}
    changed = {**listed, "responses": errors | openapi.errors(404, 409, 500, 503), "openapi_extra": PARAMETERS}

    @app.post("/v2/repository/index", summary="The models there are", **listed)
    async def index(request: Request) -> list[schemas.IndexEntry]:
        members = await _members(request, service.settings.timeout)
        return service.repository.index(ready=members.get("ready") is True)

    @app.post(OF_MODEL + "/load", summary="Serve a model as it is on the disk now", **changed)
    async def load(request: Request, model: str) -> list[schemas.IndexEntry]:
        return await make(request, Change("load", model))

    @app.post(OF_MODEL + "/unload", summary="End a model", **changed)
    async def unload(request: Request, model: str) -> list[schemas.IndexEntry]:
        return await make(request, Change("unload", model))

    async def make(request: Request, change: Change) -> list[schemas.IndexEntry]:
        members = await _members(request, service.settings.timeout)
        parameters = members.get("parameters", {})
        if not isinstance(parameters, dict):
            raise UsageError("parameters must be an object of JSON")
        await service.change_for_client(change, parameters)
        return [entry for entry in service.repository.index() if entry.name == change.name]


async def _members(request: Request, seconds: float) -> Mapping[str, Any]:
    """Return the members of a request's JSON, which may be empty.

    Raises:
        HTTPException: The body is too large, or does not come in time.
        UsageError: The body is no object of JSON.
    """
    body = bytearray()

    async def receive() -> None:
        async for part in request.stream():
            body.extend(part)
            if len(body) > MOST:
                raise HTTPException(413, f"the body has more than {MOST:,} bytes, the limit here: send no files")

    await in_time(receive(), time.monotonic() + seconds, seconds, 408)
    try:
        members = from_json(bytes(body)) if body.strip() else {}
    except ValueError as error:
        raise UsageError(f"the request's JSON cannot be read: {error}") from None
    if not isinstance(members, dict):
        raise UsageError("the body must be empty, or an object of JSON")
    return members
