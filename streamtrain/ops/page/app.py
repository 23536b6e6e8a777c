"""The page as a WSGI application: what is answered at which address, and what every answer carries along."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote

from streamtrain.dataset.errors import StoreError
from streamtrain.model.seal import VersionError
from streamtrain.ops.overview import Overview
from streamtrain.ops.page import charts, words
from streamtrain.ops.page.pages import FOLDER, environment
from streamtrain.ops.telemetry import Telemetry
from streamtrain.publish.errors import NoVersionError, PublishError

_PER_PAGE = 50
_SHOWN_RECEIPTS = 6
_LIVE_S = 5
_HTML = "text/html; charset=utf-8"
_HEADERS = [
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
]
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})

StartResponse = Callable[[str, list[tuple[str, str]]], object]


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: str = "200 OK"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class _Request:
    base: str
    rest: str
    query: dict[str, list[str]]


class App:
    """Answers GET and HEAD, and changes nothing.

    Parameters
    ----------
    overviews : callable
        Returns those of all routers, in order.
    telemetry : Telemetry
    """

    def __init__(self, overviews: Callable[[], Sequence[Overview]], telemetry: Telemetry) -> None:
        self._overviews, self._telemetry = overviews, telemetry
        self._pages = environment()
        self._fixed = {
            "/style.css": Answer((FOLDER / "style.css").read_bytes(), "text/css; charset=utf-8"),
            "/icon.svg": Answer((FOLDER / "icon.svg").read_bytes(), "image/svg+xml"),
        }

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, as WSGI asks of an application."""
        answer = self._answer(environ)
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("Cache-Control", "no-store"),
            *_HEADERS,
            *answer.headers,
        ]
        start_response(answer.status, headers)
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else answer.body]

    def _answer(self, environ: dict[str, Any]) -> Answer:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            text = b"only GET and HEAD: acting is the command line's\n"
            return Answer(text, status="405 Method Not Allowed", headers=(("Allow", "GET, HEAD"),))
        if not _host_is_right(environ):
            text = b"this Host is not served here; ask for localhost, or use a Unix socket behind a proxy\n"
            return Answer(text, status="421 Misdirected Request")
        path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
        if path in self._fixed:
            return self._fixed[path]
        if path == "/metrics":
            return Answer(*self._telemetry.exposition(environ.get("HTTP_ACCEPT", "")))
        overviews = self._overviews()
        if path == "/healthz":
            return _flag(all(one.now()["alive"] for one in overviews), b"ok\n", b"no progress: see the log\n")
        if path == "/readyz":
            return _flag(
                bool(overviews) and all(one.now()["ready"] for one in overviews),
                b"ready\n",
                b"not yet: the logs are read and the kernels compiled first\n",
            )
        return self._routed(overviews, path, parse_qs(environ.get("QUERY_STRING", "")[:200]))

    def _routed(self, overviews: Sequence[Overview], path: str, query: dict[str, list[str]]) -> Answer:
        """Find out which router is meant; with only one, addresses do without its name."""
        if len(overviews) == 1 and not overviews[0].watched.name:
            return self._page(overviews[0], _Request("", path, query))
        if path == "/status.json":
            return _json({"routers": {one.watched.name: one.now() for one in overviews}})
        if path == "/":
            states = [one.now() for one in overviews]
            return self._render("routers.html", base="", states=states, live=_live(query))
        for one in overviews:
            base = f"/routers/{one.watched.name}"
            if path == base or path.startswith(f"{base}/"):
                encoded = f"/routers/{quote(one.watched.name, safe='')}"
                return self._page(one, _Request(encoded, path.removeprefix(base) or "/", query))
        return self._missing(path)

    def _page(self, overview: Overview, request: _Request) -> Answer:
        try:
            if request.rest == "/":
                return self._overview(overview, request)
            if request.rest == "/status.json":
                return _json(overview.now())
            if request.rest == "/receipts":
                return self._receipts(overview, request)
            if request.rest == "/quarantine":
                groups = overview.quarantine()
                return self._render("quarantine.html", base=request.base, state=overview.now(), groups=groups)
            if request.rest.startswith("/versions/"):
                return self._version(overview, request)
        except NoVersionError as error:
            return self._missing(str(error))
        except (StoreError, PublishError, VersionError, OSError) as error:
            page = self._render("trouble.html", base=request.base, what="This can't be shown now", text=str(error))
            return Answer(page.body, page.content_type, "503 Service Unavailable")
        return self._missing(request.rest)

    def _overview(self, overview: Overview, request: _Request) -> Answer:
        state = overview.now()
        try:
            receipts = overview.catalog.receipts.read(_SHOWN_RECEIPTS)[::-1]
        except OSError:
            receipts = []  # among the concerns already
        prequential = state["prequential"]
        return self._render(
            "overview.html",
            base=request.base,
            state=state,
            config=overview.watched.config,
            accuracy=charts.accuracy_chart(state["history"]),
            prequential=None if prequential is None else charts.prequential_chart(prequential),
            receipts=[words.receipt(one) for one in receipts],
            live=_live(request.query),
        )

    def _receipts(self, overview: Overview, request: _Request) -> Answer:
        given = request.query.get("page", ["1"])[0]
        number = int(given) if given.isascii() and given.isdecimal() and len(given) < 7 else 1
        number = max(1, number)
        found = overview.catalog.receipts.read(number * _PER_PAGE + 1)[::-1]
        shown = found[(number - 1) * _PER_PAGE : number * _PER_PAGE]
        return self._render(
            "receipts.html",
            base=request.base,
            state=overview.now(),
            receipts=[words.receipt(one) for one in shown],
            number=number,
            older=len(found) > number * _PER_PAGE,
        )

    def _version(self, overview: Overview, request: _Request) -> Answer:
        name = request.rest.removeprefix("/versions/")
        manifest, metrics = overview.catalog.report(name)
        epochs = [one for one in metrics.get("epochs") or [] if isinstance(one, dict)]
        gate = manifest.get("gate")
        return self._render(
            "version.html",
            base=request.base,
            state=overview.now(),
            name=name,
            manifest=manifest,
            verdict=words.receipt({"event": "candidate", **gate}) if isinstance(gate, dict) else None,
            holdout=metrics.get("holdout") if isinstance(metrics.get("holdout"), dict) else None,
            n_epochs=len(epochs),
            loss=charts.loss_chart(epochs),
        )

    def _missing(self, text: str) -> Answer:
        page = self._render("trouble.html", base="", what="There is no such page", text=text)
        return Answer(page.body, page.content_type, "404 Not Found")

    def _render(self, template: str, live: int | None = None, **values: object) -> Answer:
        body = self._pages.get_template(template).render(live=live, live_s=_LIVE_S, **values).encode()
        return Answer(body, _HTML, headers=() if live is None else (("Refresh", str(live)),))


def _live(query: dict[str, list[str]]) -> int | None:
    return _LIVE_S if query.get("live") == ["1"] else None


def _flag(good: bool, yes: bytes, no: bytes) -> Answer:
    return Answer(yes) if good else Answer(no, status="503 Service Unavailable")


def _json(value: object) -> Answer:
    return Answer(json.dumps(value, allow_nan=False).encode() + b"\n", "application/json")


def _host_is_right(environ: dict[str, Any]) -> bool:
    """Whether a browser on this machine meant this machine: a name that an attacker points here is refused.

    Asked from elsewhere, or through a Unix socket, any name is right: whoever opened that way chose it.
    """
    try:
        local = ipaddress.ip_address(environ.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return True
    host = environ.get("HTTP_HOST", "")
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    return not local or name.lower() in _LOOPBACK_NAMES
