"""The rules of the tree itself: who imports whom, which adapter touches which library, what consensus may not hold."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("proto_specs", "consensus", "inference", "genesis", "node", "myelin")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
BESIDE = sorted(path for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
LINES_MAX, FUNCTION_LINES_MAX = 400, 70

ADAPTERS = {
    "msgpack": ("proto_specs/codec.py",),
    "nacl": ("proto_specs/ed25519.py", "consensus/vrf.py"),
    "plyvel": ("node/store/",),
    "libp2p": ("node/p2p/",),
    "multiaddr": ("node/p2p/",),
    "zeroconf": ("node/p2p/mdns.py",),
    "ifaddr": ("node/p2p/mdns.py",),
    "llguidance": ("inference/decoding/grammar.py",),
    "onnxruntime": ("inference/engine/ort.py",),
    "torch": (),
    "transformers": (),
}
"""Library -> the files, or folders, of ours that may import it. torch and transformers are for tests alone."""

CONSENSUS_IMPORTS = {
    "__future__", "abc", "bisect", "collections", "consensus", "contextlib", "dataclasses", "enum", "functools",
    "hashlib", "heapq", "itertools", "nacl", "operator", "proto_specs", "struct", "types", "typing",
}  # fmt: skip
"""Everything without IO, clock, randomness, threads or floats that consensus is made of. time, random, os, socket,
pathlib, threading, asyncio and trio can never be added here."""


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def find_imports(tree: ast.AST) -> Iterator[str]:
    """Top-level names of everything imported anywhere in a module, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name.partition(".")[0] for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, "imports are absolute"
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in (
            "__import__",
            "import_module",
        ):
            yield "an import by name"


def find_misplaced(files: list[Path], root: Path) -> list[str]:
    """Imports of a library outside its adapters."""
    found = []
    for path in files:
        name = path.relative_to(root).as_posix()
        for library in set(find_imports(parse(path))) & set(ADAPTERS):
            if not any(name == one or (one.endswith("/") and name.startswith(one)) for one in ADAPTERS[library]):
                found.append(f"{name} imports {library}")
    return found


def find_inexact(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, what) of everything that computes with floats."""
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=float() | complex()):
                yield node.lineno, f"literal {node.value}"
            case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()):
                yield node.lineno, "true division"
            case ast.Call(func=ast.Name(id="float" | "complex" | "round" as name)):
                yield node.lineno, f"{name}()"


def test_imports_point_one_way() -> None:
    """In a process of its own: the linter reconfigures logging, and other tests read the log."""
    linter = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    done = subprocess.run(linter, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "path", [one for one in FILES if one.name == "__init__.py"], ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_a_package_itself_imports_nothing(path: Path) -> None:
    """What lies in a folder's `__init__` escapes the contracts about the folders inside it."""
    assert list(find_imports(parse(path))) == []


def test_only_adapters_import_their_library() -> None:
    assert find_misplaced(FILES, ROOT) == []


def test_the_product_never_imports_what_is_not_in_the_wheel() -> None:
    for path in FILES:
        assert set(find_imports(parse(path))) & {"tests", "benchmarks"} == set(), path


def test_every_adapter_exists_and_imports_its_library() -> None:
    """A rule about a file that is gone protects nothing."""
    for library, places in ADAPTERS.items():
        for place in places:
            path = ROOT / place
            files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
            assert any(library in find_imports(parse(one)) for one in files), f"{place} does not import {library}"


def test_consensus_imports_nothing_that_could_differ_between_nodes() -> None:
    for path in sorted((ROOT / "consensus").rglob("*.py")):
        assert set(find_imports(parse(path))) - CONSENSUS_IMPORTS == set(), path


def test_consensus_computes_in_integers() -> None:
    for path in sorted((ROOT / "consensus").rglob("*.py")):
        assert list(find_inexact(parse(path))) == [], path


def test_serving_knows_neither_arrays_nor_clocks() -> None:
    """`inference/serving` is sans-IO: bytes and records in, bytes and records out."""
    allowed = {"__future__", "collections", "dataclasses", "enum", "inference", "itertools", "proto_specs", "typing"}
    for path in sorted((ROOT / "inference" / "serving").rglob("*.py")):
        assert set(find_imports(parse(path))) - allowed == set(), path


def find_long(text: str) -> Iterator[str]:
    """The file, where it has more lines than the house rule allows, and each of its functions that has."""
    count = len(text.splitlines())
    if count > LINES_MAX:
        yield f"{count} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            count = node.end_lineno - node.lineno + 1
            if count > FUNCTION_LINES_MAX:
                yield f"{node.name} has {count} lines"


def find_namesakes(files: list[Path], root: Path) -> list[str]:
    """Top-level classes of one name, private ones too, with the files that have them."""
    places: dict[str, list[str]] = {}
    for path in files:
        for node in parse(path).body:
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(path.relative_to(root).as_posix())
    return sorted(f"{name}: {', '.join(found)}" for name, found in places.items() if len(found) > 1)


def find_private_imports(tree: ast.AST) -> Iterator[str]:
    """Private names, `_name` but not `__name__`, that a module imports from another."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (one.name for one in node.names if one.name.startswith("_") and not one.name.endswith("__"))


def test_no_two_classes_share_a_name() -> None:
    assert find_namesakes(FILES, ROOT) == []


def test_private_names_are_not_imported() -> None:
    for path in FILES + BESIDE:
        assert list(find_private_imports(parse(path))) == [], path


MIRRORS = ("unit", "property", "integration")
SUBJECTS = {"integration/demo", "integration/gateway"}
"""Folders of tests about no single folder of ours: every process at once, alone or before other people's clients."""


def find_unmirrored(tests: Path, root: Path) -> list[str]:
    """Folders with tests, of the kinds that mirror the tree, for which the tree has no folder of that name."""
    folders = {path.parent for kind in MIRRORS for path in (tests / kind).rglob("test_*.py")}
    names = sorted(path.relative_to(tests).as_posix() for path in folders)
    return [name for name in names if name not in SUBJECTS and not (root / name.partition("/")[2]).is_dir()]


def test_tests_mirror_the_packages() -> None:
    assert find_unmirrored(ROOT / "tests", ROOT) == []
    assert all(list((ROOT / "tests" / name).glob("test_*.py")) for name in SUBJECTS), (
        "a rule about a folder that is gone"
    )


@pytest.mark.parametrize("path", FILES + BESIDE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_says_what_it_is_for_and_is_short(path: Path) -> None:
    text = path.read_text("utf-8")
    if text or path in FILES:
        assert ast.get_docstring(ast.parse(text)), "the first line says the file's one reason"
    assert list(find_long(text)) == []


def test_the_checks_see_what_they_look_for(tmp_path: Path) -> None:
    """Against themselves: each finds an offender made for it."""
    offender = tmp_path / "offender.py"
    offender.write_text("def f():\n    import torch.nn\n    from plyvel import DB\n    return 1 / 2 + 0.5\n", "utf-8")
    assert sorted(find_misplaced([offender], tmp_path)) == ["offender.py imports plyvel", "offender.py imports torch"]
    assert list(find_inexact(parse(offender))) == [(4, "true division"), (4, "literal 0.5")]
    other = tmp_path / "other.py"
    offender.write_text("class _A: ...\nclass B: ...\n", "utf-8")
    other.write_text("from offender import _A as A, B, __doc__\nclass B: ...\nclass C:\n    class _A: ...\n", "utf-8")
    assert find_namesakes([offender, other], tmp_path) == ["B: offender.py, other.py"]
    assert list(find_private_imports(parse(other))) == ["_A"]
    for folder in ("unit/here", "unit/gone"):
        (tmp_path / "tests" / folder).mkdir(parents=True)
        (tmp_path / "tests" / folder / "test_it.py").touch()
    (tmp_path / "here").mkdir()
    assert find_unmirrored(tmp_path / "tests", tmp_path) == ["unit/gone"]
    body = "    pass\n"
    assert list(find_long("def f():\n" + body * (FUNCTION_LINES_MAX - 1))) == []
    assert list(find_long("def f():\n" + body * FUNCTION_LINES_MAX)) == [f"f has {FUNCTION_LINES_MAX + 1} lines"]
    assert list(find_long("pass\n" * LINES_MAX)) == []
    assert list(find_long("pass\n" * (LINES_MAX + 1))) == [f"{LINES_MAX + 1} lines"]
    offender.write_text('import importlib\nimportlib.import_module("time")\n', "utf-8")
    assert set(find_imports(parse(offender))) - CONSENSUS_IMPORTS == {"importlib", "an import by name"}
