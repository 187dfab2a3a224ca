"""The requests that are refused for their sender or their address."""

import hmac
import re
from urllib.parse import parse_qsl, urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from fusioncam.runtime.arguments import quote
from fusioncam.runtime.service.errors import error_json

FREE = ("/v2/health/",)
GUARDED = ("/v1", "/v2", "/metrics", "/samples")
SAME_SITE = ("same-origin", "none")  # in Sec-Fetch-Site, of requests that no page of another site makes
TAKES_QUERY = re.compile("(/infer(_stream)?|:predict|:explain)$")
PORTS = {"http": 80, "https": 443}


def refusal(scope: Scope, headers: Headers, token: bytes | None) -> Response | None:
    """Return the answer that refuses a request, or None where it may go on.

    Args:
        scope: The request.
        headers: Its headers.
        token: The token that guarded routes ask for, or None: then they refuse web pages of other sites. Free are the
            health routes, which probes ask, and the pages (`/`, `/docs`), which are the same for everybody and ask for
            the token themselves.
    """
    if scope["path"].startswith(GUARDED) and not scope["path"].startswith(FREE):
        if token is not None and not has_token(headers.get("Authorization", ""), token):
            message = "give the service's token in the header Authorization: Bearer TOKEN"
            return error_json(401, message, {"WWW-Authenticate": "Bearer"})
        if token is None and _is_foreign(headers) and not _is_link(scope, headers):
            message = "web pages of other sites are not answered; start the service with a token, and send it"
            return error_json(403, message)
    query = scope["query_string"].decode("latin-1")
    if query and not TAKES_QUERY.search(scope["path"]):
        name = next((name for name, _ in parse_qsl(query, keep_blank_values=True)), query)
        message = f"there is no query parameter {quote(name)}; only requests for explanations have some"
        return error_json(400, message)
    return None


def has_token(authorization: str, token: bytes) -> bool:
    """Return whether the value of the header Authorization is `Bearer TOKEN`, or as good as that."""
    scheme, _, sent = authorization.partition(" ")
    same = hmac.compare_digest(sent.strip().encode("latin-1", "replace"), token)
    return same and scheme.lower() == "bearer"


def _is_foreign(headers: Headers) -> bool:
    """Return whether a page of another site asks; only browsers send these headers, and no page can change them."""
    site = headers.get("Sec-Fetch-Site", "none").lower()
    return site not in SAME_SITE or any(not _is_host(origin, headers) for origin in headers.getlist("Origin"))


def _is_host(origin: str, headers: Headers) -> bool:
    """Return whether an origin is the host of the request; `null`, the origin of files and sandboxes, is not."""
    try:
        page, host = urlsplit(origin), urlsplit(f"//{headers.get('Host', '')}")
        port = PORTS.get(page.scheme)
        return bool(page.hostname) and (page.hostname, page.port or port) == (host.hostname, host.port or port)
    except ValueError:
        return False


def _is_link(scope: Scope, headers: Headers) -> bool:
    """Return whether somebody follows a link, as from Prometheus to /metrics: the other site cannot read the answer."""
    return scope["method"] == "GET" and headers.get("Sec-Fetch-Mode") == "navigate"
