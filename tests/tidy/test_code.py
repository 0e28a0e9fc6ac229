"""What code may not do where: async in rules, wall clocks outside the clock, tasks nobody owns, mute modules."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterable

import pytest

from tests.tidy.repository import PACKAGES, ROOT, Module, files, imported_names, modules, resolved_calls

WALL_CLOCK = frozenset(
    {
        "time.time",
        "time.time_ns",
        "time.localtime",
        "time.gmtime",
        "time.ctime",
        "time.strftime",
        "datetime.datetime.now",
        "datetime.datetime.utcnow",
        "datetime.datetime.today",
        "datetime.date.today",
    }
)
CLOCK_HOME = "nodes/telemetry/clock.py"
PURE = ("nodes.model", "nodes.rules")
# A pure rule gets events and `now` and returns instructions. What it would need one of these for belongs to its caller.
IMPURE_MODULES = frozenset(
    (
        *("os", "pathlib", "tempfile", "subprocess", "signal", "multiprocessing", "concurrent"),
        *("asyncio", "socket", "select", "selectors", "aiohttp", "grpc", "http", "requests", "urllib", "web3"),
        *("sqlite3", "logging", "time", "random", "secrets", "uuid"),
    )
)


def test_model_and_rules_have_no_async_function() -> None:
    assert [place for module in _under(*PURE) for place in _async_places(module)] == []


def test_model_and_rules_do_no_io_and_read_no_clock_or_chance() -> None:
    assert [f"{module.path}: {name}" for module in _under(*PURE) for name in _impure_imports(module)] == []


def test_only_the_clock_reads_wall_time() -> None:
    found = [
        f"{module.path}:{line}: {name}()"
        for module in _under("nodes")
        if module.path != CLOCK_HOME
        for line, name in _wall_clock_reads(module)
    ]
    assert found == [], "take a Clock from nodes.telemetry.clock as an argument"


def test_every_task_has_an_owner() -> None:
    found = [
        f"{module.path}:{line}: {name}"
        for module in _under("nodes", "coordinator")
        for line, name in _bare_tasks(module)
    ]
    assert found == [], "use a TaskGroup in the coroutine that owns the work"


def test_every_public_module_says_what_it_is_for() -> None:
    silent = [
        module.path for module in modules() if _is_public(module) and not (ast.get_docstring(module.tree) or "").strip()
    ]
    assert silent == []


def test_every_part_stands_in_the_layers() -> None:
    """A new folder that no layer names would be free to import anything."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    named = {part.strip(" ()") for layer in layers for part in layer.split("|")}
    parts = {".".join(module.name.split(".")[:2]) for module in modules() if module.is_under(*PACKAGES)}
    parts = {part for part in parts if "." in part and part.split(".")[0] not in named}
    assert sorted(parts - named) == [], "name these in the layers of pyproject.toml, and in ARCHITECTURE.md"


def test_no_unit_test_imports_ray() -> None:
    found = [
        f"{module.path}: {name}"
        for module in modules()
        if module.path.startswith("tests/unit/")
        for name in imported_names(module).values()
        if name.split(".")[0] == "ray"
    ]
    assert found == []


def test_packages_have_an_init() -> None:
    """setuptools and import-linter take a folder without one for something else."""
    missing = {
        folder
        for name in files()
        if name.endswith(".py") and name.split("/")[0] in PACKAGES
        if not (ROOT / (folder := name.rpartition("/")[0]) / "__init__.py").exists()
        and folder.split("/")[0] != "protos"
    }
    assert missing == set()


@pytest.mark.parametrize(
    ("source", "finder"),
    [
        ("async def f(): ...", "_async_places"),
        ("class A:\n    async def f(self): ...", "_async_places"),
        ("import socket", "_impure_imports"),
        ("from concurrent.futures import Executor", "_impure_imports"),
        ("import time\ntime.time_ns()", "_wall_clock_reads"),
        ("from time import time as now\nnow()", "_wall_clock_reads"),
        ("import datetime as dt\ndt.datetime.now(dt.UTC)", "_wall_clock_reads"),
        ("from datetime import datetime\ndatetime.now()", "_wall_clock_reads"),
        ("import time\nclass A:\n    clock = time.time", "_wall_clock_reads"),
        ("import asyncio\nasyncio.create_task(f())", "_bare_tasks"),
        ("from asyncio import ensure_future\nensure_future(f())", "_bare_tasks"),
        ("import asyncio\nasyncio.get_running_loop().create_task(f())", "_bare_tasks"),
        ("loop.create_task(f())", "_bare_tasks"),
    ],
)
def test_the_rules_find_what_they_forbid(source: str, finder: str) -> None:
    module = Module(path="nodes/x.py", text=source, tree=ast.parse(source))
    assert len(list(globals()[finder](module))) == 1


@pytest.mark.parametrize(
    ("source", "finder"),
    [
        ("import time\ntime.monotonic_ns()", "_wall_clock_reads"),
        ("async with asyncio.TaskGroup() as group:\n    group.create_task(f())", "_bare_tasks"),
        ("async def g():\n    async with TaskGroup() as tasks:\n        tasks.create_task(f())", "_bare_tasks"),
        ("class A:\n    def f(self):\n        self._tasks.create_task(g())", "_bare_tasks"),
    ],
)
def test_the_rules_leave_the_rest_alone(source: str, finder: str) -> None:
    module = Module(path="nodes/x.py", text=source, tree=ast.parse(source))
    assert list(globals()[finder](module)) == []


def _under(*packages: str) -> list[Module]:
    return [module for module in modules() if module.is_under(*packages)]


def _is_public(module: Module) -> bool:
    return all(not part.startswith("_") for part in module.name.split("."))


def _async_places(module: Module) -> Iterable[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.AsyncFunctionDef):
            yield f"{module.path}:{node.lineno}: async def {node.name}"


def _impure_imports(module: Module) -> Iterable[str]:
    return sorted({name for name in imported_names(module).values() if name.split(".")[0] in IMPURE_MODULES})


def _wall_clock_reads(module: Module) -> Iterable[tuple[int, str]]:
    """Calls, and also mentions: `clock = time.time` reads the clock through another name."""
    names = imported_names(module)
    called = {id(node.func) for node in ast.walk(module.tree) if isinstance(node, ast.Call)}
    found = [(line, name) for line, name in resolved_calls(module) if name in WALL_CLOCK]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute | ast.Name) and id(node) not in called and isinstance(node.ctx, ast.Load):
            head, _, rest = ast.unparse(node).partition(".")
            full = ".".join(filter(None, [names.get(head, head), rest]))
            if full in WALL_CLOCK:
                found.append((node.lineno, full))
    return found


def _bare_tasks(module: Module) -> Iterable[tuple[int, str]]:
    """A loop's `create_task` is told from a group's by the receiver: its name ends in loop, or a getter returns it."""
    names = imported_names(module)
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call):
            continue
        written = ast.unparse(node.func)
        head, _, rest = written.partition(".")
        full = ".".join(filter(None, [names.get(head, head), rest]))
        receiver, _, method = full.rpartition(".")
        of_loop = method in ("create_task", "ensure_future") and receiver.removesuffix("()").endswith("loop")
        if of_loop or full in ("asyncio.create_task", "asyncio.ensure_future", "asyncio.tasks.create_task"):
            yield node.lineno, written
