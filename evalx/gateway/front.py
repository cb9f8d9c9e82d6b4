"""The page at `/`: a handful of files from the package, read once, and what a browser may do with them.

Programs and their output are hostile, and the page shows them. It inserts them as text; that nothing else could be
done with them is the policy's work: no scripts but these files, no other hosts, and no text that is taken for HTML
(`require-trusted-types-for`, of which no policy is allowed).
"""

from __future__ import annotations

import hashlib
from importlib import resources

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

#: Where the files are, below `/`.
FOLDER = "/page/"
_INDEX = "index.html"
_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    # Asked again each time, and answered with a 304: files that import each other are never of two versions.
    "cache-control": "no-cache",
}


class Front:
    """The files, by name."""

    def __init__(self) -> None:
        place = resources.files("evalx.gateway") / "page"
        files = [file for file in place.iterdir() if _kind(file.name) in _TYPES]
        self._files = {file.name: (file.read_bytes(), _TYPES[_kind(file.name)]) for file in files}
        self._tags = {name: f'"{hashlib.sha256(body).hexdigest()[:32]}"' for name, (body, _) in self._files.items()}

    async def index(self, request: Request) -> Response:
        """`GET /`."""
        return self._answer(request, _INDEX)

    async def file(self, request: Request) -> Response:
        """`GET /page/{name}`."""
        name = request.path_params["name"]
        if name not in self._files:
            raise HTTPException(404)
        return self._answer(request, name)

    def _answer(self, request: Request, name: str) -> Response:
        headers = _HEADERS | {"etag": self._tags[name]}
        if self._tags[name] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        body, kind = self._files[name]
        return Response(body, headers=headers, media_type=kind)


def _kind(name: str) -> str:
    return name.rpartition(".")[2]
