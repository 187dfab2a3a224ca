"""What the service says of itself holds: schemathesis makes requests of `/openapi.json`, sound and bad ones."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings

schemathesis = pytest.importorskip("schemathesis")

from schemathesis.specs.openapi.checks import positive_data_acceptance  # noqa: E402

FEW = settings(
    max_examples=8, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
# What tensors must be like goes beyond what a schema can say: a request may fit it and be turned down.
BEYOND = [positive_data_acceptance]


def operations(client):  # whose application is closed by it
    schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
    schema = schema.exclude(path_regex="/versions/.+/(ready|config|stats|infer)|:predict")  # the same functions answer
    return [found.ok() for found in schema.get_all_operations()]


def answers(operation, mode):
    """Statuses of what the service answers to requests made for an operation, each held against the description."""
    to_infer, statuses = operation.path.endswith("/infer"), set()

    @settings(FEW, max_examples=10 if to_infer else 1)
    @given(operation.as_strategy(generation_mode=mode))
    def ask(case):
        for name in case.path_parameters or ():
            case.path_parameters[name] = {"model": "m", "version": "1"}[name]
        statuses.add(case.call_and_validate(excluded_checks=BEYOND).status_code)

    ask()
    return statuses


def test_sound_requests(asking):
    found = {
        operation.path: answers(operation, schemathesis.GenerationMode.POSITIVE) for operation in operations(asking())
    }
    for route in ("v2/models/{model}/infer", "v2/models/{model}/infer_stream", "v1/models/{model}:explain"):
        assert 400 in (statuses := found.pop(f"/{route}"))  # for want of a picture
        assert statuses <= {200, 204, 400}  # a picture may be made up, too: one pixel, say
    for action in ("load", "unload"):  # without a token
        assert found.pop(f"/v2/repository/models/{{model}}/{action}") == {403}
    assert len(found) == 13
    assert set().union(*found.values()) == {200}


def test_an_explanation(asking, request_of, photo):
    """Which no request that is made up gets, for want of a picture."""
    (infer,) = [operation for operation in operations(asking()) if operation.path.endswith("/infer")]
    packed = request_of(parameters={"binary_data_output": True})
    for kind, body, headers in (
        ("application/json", request_of(), {}),
        ("application/json", packed, {}),
        ("application/octet-stream", photo, {"Inference-Header-Content-Length": "0"}),
    ):
        case = infer.Case(path_parameters={"model": "m"}, headers=headers, body=body, media_type=kind)
        assert case.call_and_validate().status_code == 200


def test_bad_requests(asking):
    (infer,) = [operation for operation in operations(asking()) if operation.path.endswith("/infer")]
    found = answers(infer, schemathesis.GenerationMode.NEGATIVE)
    assert found <= {400, 415}
    assert 400 in found


def test_every_body_error_and_guard_is_described(asking):
    said = asking(token="s3cret").get("/openapi.json").json()
    infer = said["paths"]["/v2/models/{model}/infer"]["post"]
    kinds = {"application/json", "application/octet-stream"}
    assert set(infer["requestBody"]["content"]) == kinds | {"image/*", "multipart/form-data"}
    assert set(infer["responses"]["200"]["content"]) == kinds | {"image/png", "image/webp", "application/x-npz"}
    assert {"budget", "class", "explain_if", "picture"} < {p["name"] for p in infer["parameters"]}
    assert {"204", "400", "401", "403", "404", "406", "408", "413", "415", "500", "503", "504"} <= {*infer["responses"]}
    assert "Retry-After" in infer["responses"]["503"]["headers"]
    operations = [(path, o) for path, some in said["paths"].items() for o in some.values()]
    assert not any("422" in o["responses"] for _, o in operations)
    free = {path for path, o in operations if "security" not in o}
    assert free == {"/v2/health/live", "/v2/health/ready"}
    assert "security" not in str(asking().get("/openapi.json").json())
