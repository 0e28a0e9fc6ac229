"""pytest fixtures for applications that span rollups: a whole Lockstep testnet for the tests of anybody's project.

Loaded by pytest through its entry point as soon as Lockstep is installed. The testnet runs in a process of its own,
with ports from the OS, so tests may block, run under xdist (one testnet per worker), or be killed: it ends with them.
Imports nothing heavy before a test asks for a testnet, since pytest loads this module in every run.
"""

import ctypes
import json
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from coordinator.bundle import Bundle, Client, LifeEvent

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
LOG_TAIL_CHARACTERS = 2_000
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TestAccount:
    """Funded on every rollup. The key is known to all."""

    __test__ = False
    address: str
    private_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TestRollup:
    """One rollup."""

    __test__ = False
    name: str
    chain_id: int
    rpc_url: str
    """JSON-RPC over HTTP, for web3.py, viem, cast and the like."""
    ws_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleResult:
    """What became of a bundle."""

    bundle: "Bundle"
    events: "tuple[LifeEvent, ...]"

    @property
    def outcome(self) -> str:
        """succeeded, partly succeeded, reverted, skipped or dropped; aborted where a verdict struck it."""
        last = ""
        for event in self.events:
            if event.stage in ("executed", "dropped", "aborted"):
                last = event.fate or event.stage
            elif event.stage == "atomic_safe":
                last = "succeeded"
        return last

    @property
    def fates(self) -> list[str]:
        """Of every leg, in leg order: succeeded, reverted, skipped or dropped."""
        legs = sorted((event for event in self.events if event.stage == "leg"), key=lambda event: event.leg_index or 0)
        return [event.fate for event in legs]


@dataclass(frozen=True, slots=True, kw_only=True)
class LockstepTestnet:
    """A running testnet."""

    rollups: tuple[TestRollup, ...]
    accounts: tuple[TestAccount, ...]
    contracts: Mapping[str, str]
    """Name to address of what stands on every rollup: TokenA, TokenB, Pool, Counter and the scenario's own."""
    directory: Path

    def rollup(self, name_or_chain_id: str | int) -> TestRollup:
        """One rollup. Raises KeyError."""
        for rollup in self.rollups:
            if name_or_chain_id in (rollup.name, rollup.chain_id):
                return rollup
        raise KeyError(name_or_chain_id)

    def client(self) -> "Client":
        """The client library on this testnet: `async with testnet.client() as client: ...`."""
        from coordinator.bundle import Client

        return Client.of_directory(self.directory)

    def send_bundle(
        self, legs: Sequence[Mapping[str, Any]], keys: Sequence[str], *, timeout_s: float = 30.0
    ) -> BundleResult:
        """Build, sign with every key, submit and follow to the end. Blocks; in async tests use `client`."""
        import asyncio

        async def run() -> BundleResult:
            async with self.client() as client:
                bundle = await client.build(legs)
                for key in keys:
                    bundle = bundle.sign(key)
                await bundle.submit(client)
                events = [event async for event in client.follow(bundle, timeout_s=timeout_s)]
                return BundleResult(bundle=bundle, events=tuple(events))

        return asyncio.run(run())


@contextmanager
def running_testnet(directory: Path, *, scenario: str = "", overrides: Sequence[str] = ()) -> Iterator[LockstepTestnet]:
    """Start `lockstep up` in a process of its own, and end it on leaving. Raises RuntimeError with its own words."""
    command = [sys.executable, "-m", "coordinator", "up", "--json", "--launcher", "inprocess", "--out", str(directory)]
    if scenario:
        command += ["--scenario", scenario]
    for override in overrides:
        command += ["--set", override]
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "up.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - it calls prctl and nothing else
        )
    try:
        yield _described(_first_line(process, log), directory)
    finally:
        _end(process)


def _first_line(process: subprocess.Popen[bytes], log: Path) -> bytes:
    assert process.stdout is not None
    deadline_s = time.monotonic() + START_TIMEOUT_S
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline_s - time.monotonic()))
        part = process.stdout.readline() if ready else b""
        if not part:
            tail = log.read_text(errors="replace").strip()[-LOG_TAIL_CHARACTERS:]
            state = "ended" if ready else f"was not ready within {START_TIMEOUT_S:g} s"
            raise RuntimeError(f"the testnet {state}: {tail or 'no message'}")
        line += part
    return line


def _described(line: bytes, directory: Path) -> LockstepTestnet:
    document = json.loads(line)
    return LockstepTestnet(
        rollups=tuple(
            TestRollup(name=entry["name"], chain_id=entry["chain_id"], rpc_url=entry["rpc_url"], ws_url=entry["ws_url"])
            for entry in document["rollups"]
        ),
        accounts=tuple(
            TestAccount(address=entry["address"], private_key=entry["private_key"]) for entry in document["accounts"]
        ),
        contracts=document["contracts"],
        directory=directory,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """In order where it can, at once where it cannot; its engines die with it either way."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _die_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


TestnetFactory = Callable[..., LockstepTestnet]


@pytest.fixture(scope="session")
def lockstep_overrides() -> Sequence[str]:
    """What differs from the default testnet, as KEY=VALUE; redefine this fixture in your conftest.py."""
    return ("testnet.rollups=2",)


@pytest.fixture(scope="session")
def lockstep_testnet(
    lockstep_overrides: Sequence[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LockstepTestnet]:
    """A testnet for all tests of the session (of the worker, under xdist). Tests share its state."""
    with running_testnet(tmp_path_factory.mktemp("lockstep") / "testnet", overrides=lockstep_overrides) as testnet:
        yield testnet


@pytest.fixture
def fresh_lockstep_testnet(lockstep_overrides: Sequence[str], tmp_path: Path) -> Iterator[LockstepTestnet]:
    """A testnet of this test alone, at genesis; takes about two seconds."""
    with running_testnet(tmp_path / "testnet", overrides=lockstep_overrides) as testnet:
        yield testnet
