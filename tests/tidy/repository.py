"""What the tidy tests look at: the files of the repository and the syntax trees of its hand-written modules.

It knows where things are, and holds no rule itself.
"""

from __future__ import annotations

import ast
import functools
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("protos", "nodes", "coordinator", "benchmarks")
CODE_FOLDERS = ("nodes", "coordinator", "benchmarks", "contracts", "tests")
GENERATED_SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")
# Only for a checkout without git, such as a source archive.
INSTALLED = frozenset({".git", ".venv", ".tools", "node_modules", "__pycache__", "runs", "results", "build"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One hand-written Python file."""

    path: str
    """Relative to the repository, with forward slashes."""
    text: str
    tree: ast.Module

    @property
    def name(self) -> str:
        """The dotted name under which it is imported."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def line_count(self) -> int:
        return len(self.text.splitlines())

    def is_under(self, *packages: str) -> bool:
        return any(self.name == package or self.name.startswith(f"{package}.") for package in packages)


@functools.cache
def files() -> tuple[str, ...]:
    """Every file that is or would be committed, sorted."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        # The checkout may belong to another user than the one who tests it.
        command = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    else:
        listed = [
            path.relative_to(ROOT).as_posix()
            for path in ROOT.rglob("*")
            if not INSTALLED.intersection(path.relative_to(ROOT).parts)
        ]
    return tuple(sorted(name for name in set(listed) if name and (ROOT / name).is_file()))


def text_of(name: str) -> str | None:
    """The file's text, or None for a file that is not UTF-8 text."""
    try:
        return (ROOT / name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


@functools.cache
def modules() -> tuple[Module, ...]:
    """Every hand-written Python module of the code folders."""
    found = []
    for name in files():
        if name.endswith(".py") and name.split("/")[0] in CODE_FOLDERS and not name.endswith(GENERATED_SUFFIXES):
            text = (ROOT / name).read_text(encoding="utf-8")
            found.append(Module(path=name, text=text, tree=ast.parse(text, filename=name)))
    return tuple(found)


def called_name(call: ast.Call) -> str:
    """The dotted name a call is written with, `asyncio.create_task` for example; empty if it is not a plain name."""
    parts: list[str] = []
    node: ast.expr = call.func
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([node.id, *reversed(parts)])


def imported_names(module: Module) -> dict[str, str]:
    """Local name to what it stands for: `from time import time as t` gives {"t": "time.time"}."""
    names: dict[str, str] = {}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                local = alias.asname or alias.name.split(".")[0]
                names[local] = alias.name if alias.asname else local
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def resolved_calls(module: Module) -> list[tuple[int, str]]:
    """(line, full dotted name) of every call, with imported names replaced by what they stand for."""
    names = imported_names(module)
    calls = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and (written := called_name(node)):
            head, _, rest = written.partition(".")
            full = names.get(head, head)
            calls.append((node.lineno, f"{full}.{rest}" if rest else full))
    return calls
