"""What every request passes: its id, the token, the log line, and what is said of routes that are not there."""

import json
import logging

import pytest

from fusioncam.runtime.service.monitoring.logs import JsonLines

ROUTES = ("/v2", "/v2/models/m", "/v2/models/m/config", "/v2/models/m/ready", "/v2/models/stats", "/metrics")
ELSEWHERE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}  # a page there asks


def test_a_request_id_is_kept_or_made(client):
    assert client.get("/v2", headers={"X-Request-Id": "trace-1.a:b"}).headers["x-request-id"] == "trace-1.a:b"
    made = {client.get("/v2").headers["x-request-id"] for _ in range(2)}
    for bad in ("a b", "x" * 129, "-{"):
        made.add(client.get("/v2", headers={"X-Request-Id": bad}).headers["x-request-id"])
    assert len(made) == 5
    assert all(len(id_) == 32 and id_.isalnum() for id_ in made)


class TestToken:
    def test_guarded_routes_ask_for_it(self, asking):
        client = asking(token="s3cret")
        for route in ROUTES:
            for given in ("", "Bearer wrong", "s3cret", "Basic s3cret"):
                answer = client.get(route, headers={"Authorization": given})
                assert answer.status_code == 401, route
                assert answer.headers["www-authenticate"] == "Bearer"
                assert "Authorization: Bearer TOKEN" in answer.json()["error"]
            assert client.get(route, headers={"Authorization": "Bearer s3cret"}).status_code == 200
            assert client.get(route, headers={"Authorization": "bearer s3cret"}).status_code == 200

    def test_nothing_is_read_or_explained_without_it(self, asking, told, request_of):
        assert asking(token="s3cret").post("/v2/models/m/infer", json=request_of()).status_code == 401
        assert not told.jobs

    def test_probes_and_descriptions_are_free(self, asking):
        client = asking(token="s3cret")
        for route in ("/v2/health/live", "/v2/health/ready", "/openapi.json", "/docs"):
            assert client.get(route).status_code == 200
        assert "s3cret" not in client.get("/openapi.json").text

    def test_bytes_that_are_no_text(self, asking):
        assert asking(token="s3cret").get("/v2", headers={"Authorization": b"Bearer \xff\xfe"}).status_code == 401


class TestOtherSites:
    @pytest.mark.parametrize("site", ["cross-site", "same-site"])
    def test_their_pages_are_not_answered(self, client, told, request_of, site):
        sent = {"headers": {**ELSEWHERE, "Sec-Fetch-Site": site}}
        navigated = {"headers": {**ELSEWHERE, "Sec-Fetch-Mode": "navigate"}}  # a form
        answers = [client.get(route, **sent) for route in ROUTES]
        answers += [client.post("/v2/models/m/infer", json=request_of(), **some) for some in (sent, navigated)]
        for answer in answers:
            assert answer.status_code == 403
            assert "pages of other sites" in answer.json()["error"]
        assert not told.jobs

    def test_but_with_the_token_and_where_links_lead(self, client, asking):
        guarded = asking(token="s3cret")
        assert guarded.get("/v2", headers={**ELSEWHERE, "Authorization": "Bearer s3cret"}).status_code == 200
        assert guarded.get("/v2", headers=ELSEWHERE).status_code == 401
        for route in ("/v2/health/live", "/docs"):
            assert client.get(route, headers=ELSEWHERE).status_code == 200
        assert client.get("/metrics", headers={**ELSEWHERE, "Sec-Fetch-Mode": "navigate"}).status_code == 200

    @pytest.mark.parametrize("site", ["same-origin", "none"])
    def test_the_services_own_page_is_answered(self, client, site):
        assert client.get("/v2", headers={"Sec-Fetch-Site": site}).status_code == 200

    @pytest.mark.parametrize(
        "origin",
        [
            "http://evil.example",
            "null",
            "http://service:81",
            "https://service",
            "http://service.evil.example",
            "x",
            "//[",
        ],
    )
    def test_a_post_that_says_nothing_but_its_origin(self, client, told, request_of, origin):
        body = json.dumps(request_of()).encode()
        for headers in ({"Origin": origin}, {"Origin": origin, "Sec-Fetch-Site": "same-origin"}):
            answer = client.post("/v2/models/m/infer", content=body, headers={"Host": "service:80", **headers})
            assert answer.status_code == 403
            assert "pages of other sites" in answer.json()["error"]
        assert not told.jobs

    @pytest.mark.parametrize(
        ("host", "origin"),
        [
            ("service", "http://service"),
            ("service:8000", "http://Service:8000"),
            ("service", "https://service"),  # behind a proxy that does TLS
            ("[::1]:8000", "http://[::1]:8000"),
            ("service:443", "https://service"),
        ],
    )
    def test_the_origin_of_the_services_own_page(self, client, request_of, host, origin):
        headers = {"Host": host, "Origin": origin}
        assert client.post("/v2/models/m/infer", json=request_of(), headers=headers).status_code == 200

    def test_nothing_can_be_shown_in_a_frame(self, client):
        for route in ("/docs", "/v2", "/nowhere"):
            assert "frame-ancestors 'none'" in client.get(route).headers["content-security-policy"]


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/v3", 404, "there is nothing at '/v3'"),
        ("GET", "/v2/models/n", 404, "there is no model 'n'; there are m"),
        ("GET", "/v2/models/m/versions/2", 404, "model 'm' has version 1, not '2'"),
        ("POST", "/v2/models/n/infer", 404, "there is no model 'n'"),
        ("GET", "/v2/models/m/infer", 405, "does not take 'GET'; use POST"),
        ("DELETE", "/v2", 405, "does not take 'DELETE'; use GET"),
        ("POST", "/v2/models/m/load", 404, "there is nothing at"),
        ("GET", "/v2/models/" + "x" * 4000, 404, "there is no model 'xxx"),
    ],
)
def test_what_is_not_there(client, method, path, status, words):
    answer = client.request(method, path)
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert len(answer.json()["error"]) < 300


def test_health_follows_the_batchers(client, told):
    for route in ("/v2/health/ready", "/v2/models/m/ready"):
        assert client.get(route).json()["ready"] is True
    told.ready = False
    for route in ("/v2/health/ready", "/v2/models/m/ready"):
        answer = client.get(route)
        assert answer.status_code == 503
        assert "model 'm' takes no requests" in answer.json()["error"]
        assert int(answer.headers["retry-after"]) > 0
    assert client.get("/v2/health/live").json() == {"live": True}


def test_a_log_line_says_what_was_answered_under_which_id(client, logged):
    client.get("/v2/models/n%0A", headers={"X-Request-Id": "abc", "Cookie": "secret"})
    (line,) = logged
    expected = {"request_id": "abc", "level": "info", "method": "GET", "status": 404, "route": "/v2/models/{model}"}
    assert expected.items() <= line.items()
    assert line["seconds"] > 0
    assert "there is no model" in line["error"]
    assert "secret" not in json.dumps(line)


def test_probes_do_not_fill_the_log(client, logged):
    for route in ("/v2/health/live", "/v2/health/ready", "/metrics"):
        assert client.get(route).status_code == 200
    assert logged == []


def test_errors_in_the_log_have_their_traceback_on_the_same_line():
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        found = (ValueError, error, error.__traceback__)
        record = logging.LogRecord("a", logging.ERROR, "f", 1, "it %s", ("broke",), found)
    line = JsonLines().format(record)
    assert "\n" not in line
    said = json.loads(line)
    assert said["message"] == "it broke"
    assert "ValueError: two" in said["traceback"]


def test_the_docs_page_is_there_unless_it_is_turned_off(asking):
    assert "openapi.json" in asking().get("/docs").text
    assert asking(docs=False).get("/docs").status_code == 404


QUERIES = [
    ("GET", "/v2?a", "'a'"),
    ("GET", "/v2/health/live?t=1", "'t'"),
    ("GET", "/v2/models/m/config?version=1", "'version'"),
    ("POST", "/v2/models/m/infer?budgets=auto", "'budgets'"),
    ("POST", "/v2/models/m/versions/1/infer?=", "''"),
    ("POST", "/v2/repository/index?ready=true", "'ready'"),
    ("GET", "/metrics?name%5B%5D=x", "'name[]'"),
    ("GET", "/openapi.json?v=1", "'v'"),
    ("GET", "/docs?q", "'q'"),
]


@pytest.mark.parametrize(("method", "path", "name"), QUERIES)
def test_parameters_in_the_address_are_not_passed_over(client, told, request_of, method, path, name):
    answer = client.request(method, path, **({"json": request_of()} if method == "POST" else {}))
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(f"there is no query parameter {name}; ")
    assert not told.jobs


def test_where_there_are_too_many_connections_all_are_told_so(asking):
    crowd = []
    client = asking(crowded=lambda: bool(crowd))
    assert client.get("/v2").status_code == 200
    crowd.append(1)
    for path in ("/v2", "/v2/health/live", "/metrics", "/nowhere"):
        answer = client.get(path)
        assert answer.status_code == 503
        assert "connections" in answer.json()["error"]
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.headers["Connection"] == "close"
