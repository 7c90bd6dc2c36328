"""The ASGI edge: request ids, dispatch, errors to problems, CORS, security headers, access log, metrics."""

import hmac
import ipaddress
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import structlog
import uuid_utils
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crm_api.kernel import metrics
from crm_api.kernel.merged import answered
from crm_api.kernel.problems import (
    INTERNAL,
    INVALID_HEADER,
    LOCKED,
    METHOD_NOT_ALLOWED,
    PROBLEM_JSON,
    TIMEOUT,
    UNAUTHENTICATED,
    URI_TOO_LONG,
    AccessMoved,
    Problem,
    from_database,
    no_path,
    unavailable,
)
from crm_api.kernel.router import Dispatch, Endpoint

if TYPE_CHECKING:
    from crm_api.kernel.context import Kernel

log = structlog.get_logger("crm_api.http")
_REQUEST_ID = re.compile(rb"^[A-Za-z0-9._-]{8,64}\Z")
MAX_TARGET = 8_192
MAX_HEADER = 8_192
_TRIES = 4
_SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"strict-transport-security", b"max-age=31536000"),
)
_PRIVATE = (b"cache-control", b"private, no-cache")
_CORS_HEADERS = "Authorization, Content-Type, If-Match, If-None-Match, Idempotency-Key, Prefer, X-Request-ID"
_EXPOSED = (
    "Deprecation, ETag, Idempotency-Replayed, Ignored-Fields, Link, Location, RateLimit, RateLimit-Policy, "
    "Retry-After, Sunset, WWW-Authenticate, X-Request-ID"
)


class Outcry:
    """Carries what a hand-written route raised past the framework's own answer to it, to the edge."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            if scope["type"] != "http":
                raise
            scope["crm.error"] = error


class _Outward:
    """Sends an answer with the headers that all answers have; remembers its status."""

    __slots__ = ("_extra", "_headless", "_send", "status")

    def __init__(self, send: Send, extra: list[tuple[bytes, bytes]], scope: Scope) -> None:
        self._send = send
        self._extra = extra
        self._headless = scope["method"] == "HEAD"
        self.status = 500

    async def __call__(self, message: Message) -> None:
        """Passes on what a hand-written route sends."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = self._headers(list(message["headers"]))
        elif self._headless and message["type"] == "http.response.body":
            message = {"type": "http.response.body", "body": b"", "more_body": message.get("more_body", False)}
        await self._send(message)

    async def whole(self, response: Response) -> None:
        """Sends a response whose body is at hand."""
        self.status = response.status_code
        headers = self._headers(response.raw_headers)
        await self._send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        await self._send({"type": "http.response.body", "body": b"" if self._headless else response.body})

    def _headers(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        if not any(name == b"cache-control" for name, _ in headers):
            headers.append(_PRIVATE)
        headers += self._extra
        return headers


class Edge:
    """Wraps the application; every answer leaves through here."""

    def __init__(
        self,
        app: ASGIApp,
        dispatch: Dispatch,
        *,
        access_log: Callable[[dict[str, Any]], None],
        metrics_token: str | None,
        max_body: int,
        origins: tuple[str, ...],
        proxies: tuple[str, ...],
    ) -> None:
        self._app = app
        self._dispatch = dispatch
        self._access_log = access_log
        self.metrics_token = None if metrics_token is None else f"Bearer {metrics_token}".encode()
        self._max_body = max_body
        self._origins = frozenset(origins)
        self._proxies = frozenset(proxies)
        self.kernel: Kernel | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id")
        request_id = given.decode("latin-1") if given and _REQUEST_ID.match(given) else uuid_utils.uuid7().hex
        scope["crm.request_id"] = request_id
        scope["crm.max_body"], scope["crm.kernel"] = self._max_body, self.kernel
        scope["crm.head"] = scope["method"] == "HEAD"
        scope["crm.address"] = self._address(scope, headers)
        extra = [(b"x-request-id", request_id.encode()), *_SECURITY, *self._cors(headers)]
        scope["crm.headers"], scope["crm.leave"] = extra, []
        outward = _Outward(send, extra, scope)
        try:
            response = await self._answer(scope, receive, outward, headers)
            if response is not None:  # what has no body at hand is a stream
                await (outward.whole(response) if hasattr(response, "body") else response(scope, receive, outward))
        except ClientDisconnect:
            outward.status = 499
        finally:
            for leave in scope["crm.leave"]:
                leave()
            self._note(scope, outward.status, time.perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes]) -> Response | None:
        method, path = scope["method"], scope["path"]
        try:
            if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MAX_TARGET:
                raise Problem(URI_TOO_LONG, f"Path and query have at most {MAX_TARGET} bytes.")
            if method == "OPTIONS" and b"origin" in headers and b"access-control-request-method" in headers:
                return self._preflight()
            probe = _PROBES.get(path)
            if probe is not None:
                return _methods(method, ("GET",)) or await probe(self, headers)
            if headers and max(map(len, headers.values())) > MAX_HEADER:
                raise Problem(INVALID_HEADER, f"A header has at most {MAX_HEADER} bytes.")
            methods, id_, ours = self._dispatch.find(path)
            if ours and b"%2f" in (raw := scope.get("raw_path") or b"").lower():
                methods, id_, _ = self._dispatch.find_encoded(raw)
            if not ours:
                await self._handwritten({**scope, "method": "GET"} if method == "HEAD" else scope, receive, send)
                return None
            if methods is None:
                raise no_path()
            endpoint = methods.get("GET" if method == "HEAD" else method)
            if endpoint is None:
                return _refuse(method, methods)
            scope["path_params"] = {"id": id_}
            return await self._run(endpoint, scope, receive)
        except Problem as problem:
            return problem_response(scope, problem)
        except ClientDisconnect:
            raise
        except Exception as error:  # noqa: BLE001 - the last resort: nothing internal may leave
            return problem_response(scope, self._problem(scope, error))

    async def _handwritten(self, scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(_TRIES):
            await self._app(scope, receive, send)
            error = scope.pop("crm.error", None)
            if error is None:
                return
            if not isinstance(error, AccessMoved):
                raise error
        raise unavailable("Permissions are changing; try again.")

    async def _run(self, endpoint: Endpoint, scope: Scope, receive: Receive) -> Response:
        for _ in range(_TRIES):
            try:
                return await endpoint(Request(scope, receive))
            except AccessMoved:
                continue
            except Problem as problem:
                if not problem.of_rights or not await self._granted_since(scope):
                    raise
        raise unavailable("Permissions are changing; try again.")

    @staticmethod
    async def _granted_since(scope: Scope) -> bool:
        """Whether a refusal rests on remembered rights that have changed: what is granted holds at once, too."""
        principal, access = scope.get("crm.principal"), scope.get("crm.access")
        if principal is None or access is None:
            return False
        fresh = await scope["crm.kernel"].authenticator.access(principal, at_least=access.version + 1)
        return bool(fresh.version != access.version)

    def _problem(self, scope: Scope, error: Exception) -> Problem:
        found = from_database(error, self.kernel.catalog.constraints if self.kernel else {})
        if found is None:
            log.error("request_failed", request_id=scope["crm.request_id"], path=scope["path"], exc_info=error)
            return Problem(INTERNAL, "The server failed. Report the request id.")
        if found.kind in (LOCKED, TIMEOUT) and "crm.principal" in scope:
            scope["crm.kernel"].limiter.held(scope["crm.principal"])
        if found.kind.status == 503:
            log.warning("database_unavailable", request_id=scope["crm.request_id"], error=type(error).__name__)
        return found

    def _address(self, scope: Scope, headers: dict[bytes, bytes]) -> str:
        address: str = (scope.get("client") or ("127.0.0.1",))[0]
        forwarded = headers.get(b"x-forwarded-for")
        if forwarded is None or address not in self._proxies:
            return address
        last = forwarded.decode("latin-1").split(",")[-1].strip()
        try:
            return str(ipaddress.ip_address(last))
        except ValueError:
            return address

    def _cors(self, headers: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        origin = headers.get(b"origin")
        if origin is None or not self._origins:
            return []
        if "*" not in self._origins and unquote(origin.decode("latin-1")) not in self._origins:
            return [(b"vary", b"Origin")]
        return [
            (b"access-control-allow-origin", b"*" if "*" in self._origins else origin),
            (b"access-control-expose-headers", _EXPOSED.encode()),
            (b"vary", b"Origin"),
        ]

    @staticmethod
    def _preflight() -> Response:
        return Response(
            status_code=204,
            headers={
                "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
                "Access-Control-Allow-Headers": _CORS_HEADERS,
                "Access-Control-Max-Age": "600",
            },
        )

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = path.split("/")[2] if (path := scope["path"]).startswith("/v1/") else path
        route = route if route in self._dispatch.collections or route in _PROBES else "other"
        metrics.seconds(method, route).observe(seconds)
        metrics.requests(method, status).inc()
        principal = scope.get("crm.principal")
        self._access_log(
            {
                "event": "request",
                "method": scope["method"],
                "path": path,
                "status": status,
                "ms": round(seconds * 1000, 2),
                "request_id": scope["crm.request_id"],
                "tenant": principal.tenant_id if principal else None,
                "principal": principal.id if principal else None,
            }
        )


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


async def _healthz(edge: Edge, headers: dict[bytes, bytes]) -> Response:
    del edge, headers
    return Response(b'{"status":"ok"}', media_type="application/json")


async def _readyz(edge: Edge, headers: dict[bytes, bytes]) -> Response:
    del headers
    try:
        assert edge.kernel is not None  # noqa: S101 - set by the lifespan before requests are taken
        await edge.kernel.database.ping()
    except Exception as error:  # noqa: BLE001 - whatever it is, the answer is "not ready"
        log.warning("not_ready", error=type(error).__name__)
        return Response(b'{"status":"unavailable"}', 503, {"Retry-After": "1"}, "application/json")
    return Response(b'{"status":"ok"}', media_type="application/json")


async def _metrics(edge: Edge, headers: dict[bytes, bytes]) -> Response:
    wanted = edge.metrics_token
    if wanted is not None and not hmac.compare_digest(headers.get(b"authorization", b""), wanted):
        raise Problem(UNAUTHENTICATED, "Send the token of the operator's scraper.")
    return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


_PROBES = {"/healthz": _healthz, "/readyz": _readyz, "/metrics": _metrics}


def _refuse(method: str, methods: dict[str, Any]) -> Response:
    allow = sorted({*methods, "OPTIONS", *(("HEAD",) if "GET" in methods else ())})
    if method == "OPTIONS":
        return Response(status_code=204, headers={"Allow": ", ".join(allow)})
    raise Problem(METHOD_NOT_ALLOWED, f"This path takes {', '.join(allow)}.", headers={"Allow": ", ".join(allow)})


def _methods(method: str, allowed: tuple[str, ...]) -> Response | None:
    return None if method in allowed or method == "HEAD" else _refuse(method, dict.fromkeys(allowed))


def problem_response(scope: Scope, problem: Problem) -> Response:
    """A problem as it is sent."""
    problem = answered(problem, scope["method"])
    lacking = str(problem.extra.get("permission")).partition("scope ")[2]
    told = f', error="insufficient_scope", scope="{lacking}"' if ":" in lacking else ""
    headers = {"WWW-Authenticate": f'Bearer realm="crm"{told}'} if told or problem.kind.status == 401 else {}
    body = problem.body(scope["path"], scope["crm.request_id"])
    return Response(body, problem.kind.status, headers | problem.headers, PROBLEM_JSON)
