"""Modules and functions stay short. The exceptions may only shrink: remove or lower an entry, never add one."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.tidy.repository import Module, modules

MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70

# path -> lines. Each entry was too long when the rule was introduced.
LONG_MODULES: dict[str, int] = {}
# "path::qualified name" -> lines.
LONG_FUNCTIONS: dict[str, int] = {}


def test_modules_are_short() -> None:
    lengths = {module.path: module.line_count for module in modules()}
    assert _complaints(lengths, limit=MODULE_LINES_MAX, exceptions=LONG_MODULES) == []


def test_functions_are_short() -> None:
    lengths = {}
    for module in modules():
        for qualified, function in _functions(module.tree, ""):
            lengths[f"{module.path}::{qualified}"] = _code_lines(function)
    assert _complaints(lengths, limit=FUNCTION_LINES_MAX, exceptions=LONG_FUNCTIONS) == []


def test_the_rule_finds_what_is_too_long() -> None:
    body = "\n".join(f"    x = {i}" for i in range(80))
    tree = ast.parse(f'class A:\n  def f(self):\n    """Two\n    lines."""\n{body}\n')
    module = Module(path="a.py", text="", tree=tree)
    assert {name: _code_lines(function) for name, function in _functions(module.tree, "")} == {"A.f": 81}
    assert len(_complaints({"a": 501, "b": 500}, limit=500, exceptions={})) == 1
    assert len(_complaints({"a": 520}, limit=500, exceptions={"a": 510})) == 1
    assert len(_complaints({"a": 505}, limit=500, exceptions={"a": 510})) == 1
    assert len(_complaints({"a": 499}, limit=500, exceptions={"a": 510})) == 1
    assert _complaints({"a": 510}, limit=500, exceptions={"a": 510}) == []


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{prefix}{child.name}", child
            yield from _functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")
        else:
            yield from _functions(child, prefix)


def _code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end; a long docstring is no fault."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        assert first.end_lineno is not None
        lines -= first.end_lineno - first.lineno + 1
    return lines


def _complaints(lengths: dict[str, int], *, limit: int, exceptions: dict[str, int]) -> list[str]:
    complaints = [
        f"{name} has {length} lines, {limit} are allowed: split it"
        for name, length in lengths.items()
        if length > limit and name not in exceptions
    ]
    for name, allowed in exceptions.items():
        length = lengths.get(name, 0)
        if length > allowed:
            complaints.append(f"{name} has grown from {allowed} to {length} lines; an exception may only shrink")
        elif length <= limit:
            complaints.append(f"{name} is no longer too long: remove its exception")
        elif length < allowed:
            complaints.append(f"{name} has shrunk to {length} lines: lower its exception from {allowed}")
    return complaints
