"""Guards around every test: no Ray in unit tests, nothing left running, chance from a seed.

It knows nothing of Lockstep's own parts but the deadlines of calls; fixtures that build nodes and testnets live beside
the tests that use them.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import random
import sys
import uuid
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import psutil
import pytest

from nodes.model import limits

TESTS = Path(__file__).parent
# Every process a test starts inherits this variable, also one that detaches from its parent (a raylet, a daemon), so
# that the process table tells who left it behind. Each xdist worker has its own value.
MARK_NAME = "LOCKSTEP_TEST_PROCESS_MARK"
MARK = f"{os.getpid()}-{uuid.uuid4().hex}"
# How long processes and tasks that were told to end may take to do so, on a machine that may stand still for seconds.
PROCESS_GRACE_S = 60.0
TASK_GRACE_S = 30.0
# Of calls that tests make to nodes beside them: such a machine answers late. Set before any client is imported, since
# each takes them as its defaults; what a deadline does is tested with shorter ones.
limits.RPC_DEADLINE_S = limits.SUBMIT_DEADLINE_S = 60.0
# Where folders of tests lie if it has room, and programs in it may be run: nodes sync at every block, a disk may stall
# for seconds, and nobody cuts the power here.
MEMORY = Path("/dev/shm")
MEMORY_NEEDED_BYTES = 6 * 1024**3
# multiprocessing keeps one helper per interpreter until it exits.
LONG_LIVED = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")

hypothesis.settings.register_profile("lockstep", deadline=None, print_blob=True)
hypothesis.settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "lockstep")


def pytest_configure(config: pytest.Config) -> None:
    """Mark this process, and through inheritance all that it starts; say where folders of tests lie."""
    os.environ[MARK_NAME] = MARK
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # as in a host: gRPC stays out of forks beside its threads
    if _has_room_in_memory():
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))  # pytest's name for the parent of its folders


def _has_room_in_memory() -> bool:
    try:
        found = os.statvfs(MEMORY)
    except OSError:
        return False  # only Linux has it
    free_bytes = min(found.f_bavail * found.f_frsize, psutil.virtual_memory().available)
    is_usable = os.access(MEMORY, os.W_OK) and not found.f_flag & os.ST_NOEXEC
    return is_usable and free_bytes >= MEMORY_NEEDED_BYTES


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every coroutine test the task guard, set up last so that tasks of its fixtures are not counted."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(inspect.unwrap(item.function)):
            names: list[str] = item.fixturenames
            if "no_leaked_tasks" not in names:
                names.append("no_leaked_tasks")


@pytest.fixture
async def no_leaked_tasks() -> AsyncIterator[None]:
    """Fail a test that ends while a task it started still runs: its crash would reach nobody."""
    before = asyncio.all_tasks()
    yield
    ours = asyncio.current_task()
    leaked = {task for task in asyncio.all_tasks() - before if task is not ours}
    if leaked:
        _, leaked = await asyncio.wait(leaked, timeout=TASK_GRACE_S)
    if leaked:
        names = "\n  ".join(sorted(repr(task) for task in leaked))
        for task in leaked:
            task.cancel()
        await asyncio.gather(*leaked, return_exceptions=True)
        pytest.fail(f"asyncio tasks were left running; own them with a TaskGroup or cancel and await them:\n  {names}")


@pytest.fixture(autouse=True)
def no_leaked_processes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a process behind; a test with wider fixtures is judged when their scope closes."""
    if _widest_scope(request) != "function":
        yield
        return
    yield from _guard_processes("the test")


@pytest.fixture(scope="module", autouse=True)
def no_leaked_processes_of_module(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a module that leaves a process behind, unless one of its tests uses a fixture of the whole session."""
    in_module = [
        item for item in request.session.items if isinstance(item, pytest.Function) and item.path == request.path
    ]
    if any(_scope_of(item) in ("session", "package") for item in in_module):
        yield
        return
    yield from _guard_processes("the module")


@pytest.fixture(scope="session", autouse=True)
def no_leaked_processes_of_session() -> Iterator[None]:
    """Fail when anything that the tests started outlives them."""
    yield from _guard_processes("the test session")


@pytest.fixture(autouse=True)
def no_ray_in_unit_tests(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Unit tests finish in milliseconds; Ray needs seconds and leaves the process changed."""
    if not request.path.is_relative_to(TESTS / "unit"):
        yield
        return
    if "ray" in sys.modules:
        monkeypatch.setattr(sys.modules["ray"], "init", _refuse_ray)
    yield
    # The test itself may have been the first to import ray, after the line above.
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()
        _refuse_ray()


@pytest.fixture(autouse=True)
def seeded_chance(request: pytest.FixtureRequest) -> None:
    """Seed the global generators by the test's name, so that a failure repeats alone and under xdist alike."""
    seed = _seed_of(request)
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """A generator of the test's own, seeded by its name."""
    return random.Random(_seed_of(request))


def _seed_of(request: pytest.FixtureRequest) -> int:
    return zlib.crc32(request.node.nodeid.encode())


def _refuse_ray(*_args: object, **_options: object) -> None:
    pytest.fail("a unit test called ray.init: test the plain class, or move the test to tests/e2e")


def _widest_scope(request: pytest.FixtureRequest) -> str:
    return _scope_of(request.node)


def _scope_of(item: pytest.Item) -> str:
    """The widest scope among the fixtures an item uses, the guards of this file and pytest's own aside."""
    wide = "function"
    order = ("function", "class", "module", "package", "session")
    names = getattr(item, "_fixtureinfo", None)
    for definitions in names.name2fixturedefs.values() if names else ():
        definition = definitions[-1]
        home = definition.func.__module__ or ""
        if definition.func in GUARDS or home.startswith(
            ("_pytest.", "pytest_asyncio.", "xdist.", "anyio.", "hypothesis.")
        ):
            continue
        wide = max(wide, definition.scope, key=order.index)
    return wide


def _guard_processes(what: str) -> Iterator[None]:
    before = set(_our_processes())
    yield
    leaked = [process for process in _our_processes() if process not in before]
    _, leaked = psutil.wait_procs(leaked, timeout=PROCESS_GRACE_S)
    leaked = [process for process in leaked if not _is_over(process)]
    if not leaked:
        return
    described = "\n  ".join(_describe(process) for process in leaked)
    for process in leaked:
        _kill(process)
    pytest.fail(f"{what} left processes behind (killed now):\n  {described}")


def _our_processes() -> list[psutil.Process]:
    """Every live process that descends from this one, detached ones included."""
    own = psutil.Process()
    found = set(own.children(recursive=True))
    for process in psutil.process_iter():
        if process.pid == own.pid or process in found:
            continue
        try:
            # Most are older than this process, and their environment need not be read.
            if process.create_time() >= own.create_time() and process.environ().get(MARK_NAME) == MARK:
                found.add(process)
        except (psutil.Error, OSError):
            continue  # it belongs to another user or has just ended
    return [process for process in found if not _is_over(process) and not _is_long_lived(process)]


def _is_over(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _is_long_lived(process: psutil.Process) -> bool:
    return any(name in _describe(process) for name in LONG_LIVED)


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid}: {' '.join(process.cmdline())[:300]}"
    except psutil.Error:
        return f"{process.pid}: (ended)"


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()


GUARDS = frozenset(
    inspect.unwrap(getattr(fixture, "__wrapped__", fixture))
    for fixture in (no_leaked_processes_of_module, no_leaked_processes_of_session)
)
