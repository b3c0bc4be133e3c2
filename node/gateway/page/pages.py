"""The files of the chat page with the headers they are served with. Knows no server: it maps URL paths to bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

PREFIX = "/page/"
"""Every file but index.html, which is `/`, lies under this path."""

CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What is served. Anything else in the folder (licences, notes) is not."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""Nothing runs, is loaded or is asked but from this gateway; nothing inline, no eval."""

SECURITY_HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


@dataclass(frozen=True)
class PageFile:
    """A file as it is served at `path`. `etag` is its quoted sha256: who holds it is answered 304."""

    path: str
    content_type: str
    body: bytes
    etag: str

    def list_headers(self) -> dict[str, str]:
        """Lower-case names. The browser keeps files and asks each time whether they still hold."""
        return {
            "content-type": self.content_type,
            "etag": self.etag,
            "cache-control": "no-cache",
            **SECURITY_HEADERS,
        }


def load_page_files() -> dict[str, PageFile]:
    """Every file of the page by its URL path, read once: some 300 kB."""
    return {file.path: file for file in _walk(files("node.gateway.page") / "static", "")}


def _walk(folder: Traversable, prefix: str) -> Iterator[PageFile]:
    for entry in sorted(folder.iterdir(), key=lambda one: one.name):
        name = prefix + entry.name
        if entry.is_dir():
            yield from _walk(entry, f"{name}/")
            continue
        content_type = CONTENT_TYPES.get("." + entry.name.rpartition(".")[2])
        if content_type is not None:
            body = entry.read_bytes()
            path = "/" if name == "index.html" else PREFIX + name
            yield PageFile(path, content_type, body, f'"{hashlib.sha256(body).hexdigest()}"')
