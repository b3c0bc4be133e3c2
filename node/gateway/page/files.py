"""Serves the chat page's files, which lie in `static`: read once, under a policy that lets them load nothing else."""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from node.gateway.errors import ApiError

STATIC = Path(__file__).parent / "static"
INDEX = "index.html"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}
_IMMUTABLE = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file of the page."""

    data: bytes
    kind: str
    tag: str


def load_page(root: Path = STATIC) -> dict[str, PageFile]:
    """Name -> file. Empty while there is no page."""
    found = {}
    for path in sorted(root.rglob("*")) if root.is_dir() else []:
        if path.is_file() and not path.name.startswith("."):
            data = path.read_bytes()
            kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            tag = f'"{hashlib.blake2b(data, digest_size=12).hexdigest()}"'
            is_text = kind.startswith("text/") or kind.endswith(("javascript", "json"))
            named = f"{kind}; charset=utf-8" if is_text else kind
            found[path.relative_to(root).as_posix()] = PageFile(data, named, tag)
    return found


def serve_page(files: dict[str, PageFile], request: Request) -> Response:
    """A file, or 304 for one that the browser has. Files asked for by their hash (`?v=`) never change.

    Raises ApiError 404.
    """
    found = files.get(request.path_params.get("name", INDEX))
    if found is None:
        raise ApiError(404, "there is no such page: the API is at /v1", code="not_found")
    is_versioned = request.query_params.get("v", "") == found.tag.strip('"')
    headers = {**_HEADERS, "etag": found.tag, "cache-control": _IMMUTABLE if is_versioned else "no-cache"}
    if request.headers.get("if-none-match") == found.tag:
        return Response(status_code=304, headers=headers)
    return Response(found.data, headers=headers, media_type=found.kind)
