"""Reads source and tells what in it could differ between two nodes: floats, clocks, randomness, identity, set order.

Types are followed as far as names go: what is annotated or assigned as a set, in any file that is checked together,
counts as one. It is a net, not a proof; the recorded chain under several hash seeds is the other half.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_MODULES = (
    "asyncio concurrent contextvars ctypes datetime decimal fractions gc glob io locale logging math mmap "
    "multiprocessing numpy os pathlib platform plyvel queue random sched secrets select selectors shutil signal socket "
    "statistics subprocess sys tempfile threading time trio tracemalloc uuid weakref zoneinfo"
)
FORBIDDEN_MODULES = frozenset(_MODULES.split())
_NAMES = "float complex hash id open input eval exec print globals locals dir breakpoint round __import__"
FORBIDDEN_NAMES = frozenset(_NAMES.split())
SETS = frozenset({"set", "frozenset", "Set", "AbstractSet", "MutableSet", "KeysView", "ItemsView"})
SET_METHODS = frozenset({"union", "intersection", "difference", "symmetric_difference"})
ORDER_FREE = frozenset({"len", "sorted", "set", "frozenset", "any", "all", "sum", "min", "max", "bool", "isinstance"})
_ORDERED = (
    "list tuple iter enumerate zip map filter next reversed dict fromkeys join extend chain from_iterable str repr "
    "islice pairwise accumulate deque bytes bytearray"
)
ORDERED = frozenset(_ORDERED.split())


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that may differ between nodes. `code` is the source line, stripped: allow-lists name it."""

    path: str
    line: int
    rule: str
    code: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.code}"


@dataclass(slots=True)
class Known:
    """Names that stand for sets, or for mappings to sets, across all checked files."""

    attributes: set[str]
    functions: set[str]
    mappings: set[str]


def check_sources(sources: Iterable[tuple[str, str]]) -> list[Finding]:
    """Findings in (path, source) pairs, in order."""
    parsed = [(path, text.splitlines(), ast.parse(text, path)) for path, text in sources]
    known = Known(set(), set(), set())
    for _, _, tree in parsed:
        _learn(tree, known)
    found: list[Finding] = []
    for path, lines, tree in parsed:
        for line, rule in sorted({(node.lineno, rule) for node, rule in _check(tree, known)}):
            found.append(Finding(path, line, rule, lines[line - 1].strip()))
    return found


def _learn(tree: ast.Module, known: Known) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _is_set_type(node.returns):
            known.functions.add(node.name)
        if isinstance(node, ast.ClassDef):
            for one in node.body:
                if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and _is_set_type(one.annotation):
                    known.attributes.add(one.target.id)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute):
            if _is_set_type(node.annotation):
                known.attributes.add(node.target.attr)
            if _maps_to_sets(node.annotation):
                known.mappings.add(node.target.attr)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Set | ast.SetComp | ast.Call):
            made = node.value
            is_call = isinstance(made, ast.Call) and isinstance(made.func, ast.Name) and made.func.id in SETS
            if is_call or not isinstance(made, ast.Call):
                known.attributes.update(one.attr for one in node.targets if isinstance(one, ast.Attribute))


def _check(tree: ast.Module, known: Known) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    yield from _check_plainly(tree)
    scopes: list[ast.AST] = [tree, *(one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.Lambda))]
    for scope in scopes:
        yield from _Scope(scope, known).check()


def _check_plainly(tree: ast.Module) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=float() | complex()):
                yield node, "float literal"
            case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()):
                yield node, "true division"
            case ast.BinOp(op=ast.Pow(), right=ast.UnaryOp(op=ast.USub())):
                yield node, "negative power"
            case ast.Import(names=names):
                if any(one.name.split(".")[0] in FORBIDDEN_MODULES for one in names):
                    yield node, "import"
            case ast.ImportFrom(module=str(module)):
                if module.split(".")[0] in FORBIDDEN_MODULES:
                    yield node, "import"
            case ast.Name(id=name, ctx=ast.Load()) if name in FORBIDDEN_NAMES:
                yield node, f"use of {name}"


class _Scope:
    """One function (or the module's own statements) and what its names are."""

    def __init__(self, scope: ast.AST, known: Known) -> None:
        self._known = known
        self._nodes = list(_walk_own(scope))
        self._sets: set[str] = set()
        self._mappings: set[str] = set()
        if isinstance(scope, ast.FunctionDef):
            every = (*scope.args.posonlyargs, *scope.args.args, *scope.args.kwonlyargs)
            self._sets = {one.arg for one in every if _is_set_type(one.annotation)}
            self._mappings = {one.arg for one in every if _maps_to_sets(one.annotation)}
        for _ in range(3):
            for node in self._nodes:
                self._bind(node)

    def _bind(self, node: ast.AST) -> None:
        match node:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                if _is_set_type(annotation):
                    self._sets.add(name)
                if _maps_to_sets(annotation):
                    self._mappings.add(name)
            case ast.Assign(targets=targets, value=value) if self.is_set(value):
                self._sets.update(one.id for one in targets if isinstance(one, ast.Name))
            case ast.NamedExpr(target=ast.Name(id=name), value=value) if self.is_set(value):
                self._sets.add(name)
            case ast.For(target=ast.Name(id=name), iter=source) if self._yields_sets(source):
                self._sets.add(name)

    def is_set(self, node: ast.AST) -> bool:
        match node:
            case ast.Set() | ast.SetComp():
                return True
            case ast.Name(id=name):
                return name in self._sets
            case ast.Attribute(attr=name):
                return name in self._known.attributes
            case ast.Call(func=ast.Name(id=name)):
                return name in SETS or name in self._known.functions
            case ast.Call(func=ast.Attribute(value=value, attr=name)):
                if name in ("get", "setdefault", "pop") and self._is_mapping(value):
                    return True
                is_copy = name == "copy" and self.is_set(value)
                return is_copy or name in SET_METHODS or name in self._known.functions
            case ast.Subscript(value=value):
                return self._is_mapping(value)
            case ast.BinOp(left=left, op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor(), right=right):
                return any(self.is_set(one) or _is_view(one) for one in (left, right))
            case ast.IfExp(body=body, orelse=orelse):
                return self.is_set(body) or self.is_set(orelse)
            case ast.BoolOp(values=values):
                return any(self.is_set(one) for one in values)
        return False

    def _is_mapping(self, node: ast.AST) -> bool:
        match node:
            case ast.Name(id=name):
                return name in self._mappings
            case ast.Attribute(attr=name):
                return name in self._known.mappings
        return False

    def _yields_sets(self, node: ast.AST) -> bool:
        match node:
            case ast.Call(func=ast.Attribute(value=value, attr="values")):
                return self._is_mapping(value)
        return False

    def check(self) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
        free = {id_of for node in self._nodes for id_of in self._list_order_free(node)}
        for node in self._nodes:
            match node:
                case ast.For(iter=source) if self.is_set(source):
                    yield node, "iteration over a set"
                case ast.ListComp() | ast.GeneratorExp() | ast.DictComp():
                    is_over_set = any(self.is_set(one.iter) for one in node.generators)
                    if is_over_set and (node.lineno, node.col_offset) not in free:
                        yield node, "iteration over a set"
                case ast.Starred(value=value) | ast.YieldFrom(value=value) if self.is_set(value):
                    yield node, "iteration over a set"
                case ast.FormattedValue(value=value) if self.is_set(value):
                    yield node, "text of a set"
                case ast.Call():
                    yield from self._check_call(node)

    def _check_call(self, node: ast.Call) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
        name = _name_of(node.func)
        over_sets = any(self.is_set(one) for one in node.args)
        if over_sets and name in ORDERED:
            yield node, "iteration over a set"
        if over_sets and name in ORDER_FREE and any(one.arg == "key" for one in node.keywords):
            yield node, "ties among a set's members"
        if name in ("pop", "popitem") and isinstance(node.func, ast.Attribute) and self.is_set(node.func.value):
            yield node, "pop from a set"

    def _list_order_free(self, node: ast.AST) -> Iterator[tuple[int, int]]:
        """Generators whose only reader does not see their order."""
        if isinstance(node, ast.Call) and _name_of(node.func) in ORDER_FREE and not node.keywords:
            for one in node.args:
                if isinstance(one, ast.GeneratorExp | ast.ListComp):
                    yield one.lineno, one.col_offset


def _walk_own(scope: ast.AST) -> Iterator[ast.AST]:
    """Everything under a scope that belongs to no function inside it."""
    waiting = list(ast.iter_child_nodes(scope))
    while waiting:
        node = waiting.pop(0)
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def _is_view(node: ast.AST) -> bool:
    """`mapping.keys()` and `.items()`: ordered alone, a set as soon as they are combined."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("keys", "items")


def _name_of(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _is_set_type(annotation: ast.expr | None) -> bool:
    match annotation:
        case ast.Name(id=name):
            return name in SETS
        case ast.Attribute(attr=name):
            return name in SETS
        case ast.Subscript(value=value):
            return _is_set_type(value)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _is_set_type(left) or _is_set_type(right)
    return False


def _maps_to_sets(annotation: ast.expr | None) -> bool:
    match annotation:
        case ast.Subscript(value=ast.Name(), slice=ast.Tuple(elts=[_, value])):
            return _is_set_type(value)
    return False
