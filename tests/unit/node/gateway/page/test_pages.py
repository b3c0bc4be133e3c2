"""The chat page's files: all there, served as what they are, nothing inline, none from elsewhere, vendored as noted."""

from __future__ import annotations

import hashlib
import posixpath
import re
import tomllib
from pathlib import Path

import pytest

from node.gateway.page.pages import POLICY, PREFIX, PageFile, load_page_files

ROOT = Path(__file__).parents[5]
STATIC = ROOT / "node" / "gateway" / "page" / "static"
FILES = load_page_files()
OURS = [file for path, file in FILES.items() if "/vendor/" not in path]
SCRIPTS = [file for file in OURS if file.path.endswith(".js")]
IMPORT = re.compile(r'^\s*(?:import|export)\b[^"]*?from\s+"([^"]+)"|^import\s+"([^"]+)"', re.MULTILINE)
ROW = re.compile(r"^\| `([\w.-]+)` \|.*`([0-9a-f]{64})` \|$", re.MULTILINE)


def get_path(file: PageFile) -> str:
    return file.path


def test_the_page_is_at_the_root_and_all_else_under_its_prefix() -> None:
    assert FILES["/"].content_type == "text/html; charset=utf-8"
    assert all(path == "/" or path.startswith(PREFIX) for path in FILES)
    assert FILES["/page/app.js"].content_type == "text/javascript; charset=utf-8"
    assert FILES["/page/icon.svg"].content_type == "image/svg+xml"


def test_notes_and_licences_are_not_served() -> None:
    assert not any(path.endswith((".md", ".txt")) for path in FILES)


@pytest.mark.parametrize("file", FILES.values(), ids=get_path)
def test_every_file_has_the_policy_and_a_tag_of_its_bytes(file: PageFile) -> None:
    headers = file.list_headers()
    assert headers["content-security-policy"] == POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["etag"] == f'"{hashlib.sha256(file.body).hexdigest()}"'


def test_the_policy_is_the_strict_one() -> None:
    assert POLICY == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def test_the_document_has_nothing_inline_and_names_files_that_are_served() -> None:
    text = FILES["/"].body.decode()
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", text)
    assert all(body == "" for body in re.findall(r"<script\b[^>]*>(.*?)</script>", text, re.DOTALL))
    named = re.findall(r'(?:href|src)="([^"]+)"', text)
    assert named
    assert set(named) <= set(FILES)


@pytest.mark.parametrize("file", SCRIPTS, ids=get_path)
def test_modules_import_what_is_served_and_fetch_from_this_gateway_alone(file: PageFile) -> None:
    text = file.body.decode()
    for pair in IMPORT.findall(text):
        name = pair[0] or pair[1]
        assert name.startswith("."), f"{name} would need an import map"
        assert posixpath.normpath(posixpath.join(posixpath.dirname(file.path), name)) in FILES
    assert not re.search(
        r"\beval\(|new Function|innerHTML|insertAdjacentHTML|document\.write|https?://(?!www\.w3\.org)", text
    )


@pytest.mark.parametrize("file", OURS, ids=get_path)
def test_files_are_short_and_say_what_they_are_for(file: PageFile) -> None:
    text = file.body.decode()
    assert len(text.splitlines()) <= 400
    if file.path.endswith((".js", ".css")):
        assert text.startswith(("// ", "/* "))


@pytest.mark.parametrize("folder", [STATIC / "vendor", ROOT / "tests" / "browser" / "vendor"], ids=["page", "tests"])
def test_vendored_files_are_those_of_their_note(folder: Path) -> None:
    noted = dict(ROW.findall((folder / "README.md").read_text("utf-8")))
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.js")}
    assert found
    assert found == noted


def test_the_wheel_has_the_page() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert settings["tool"]["setuptools"]["package-data"]["node.gateway.page"] == ["static/**/*"]


def test_pictures_of_the_page_are_small() -> None:
    pictures = list((ROOT / "docs" / "images").glob("chat-*.png"))
    assert pictures
    assert all(path.stat().st_size <= 200_000 for path in pictures)
