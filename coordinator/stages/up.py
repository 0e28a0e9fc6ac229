"""`up`: start a testnet, say how to reach it, show it live until it is told to end. `status`: ask one that runs.

No load is sent; that is `bench`. Keys that are printed follow from the scenario's seed and protect nothing.
"""

import asyncio
import json
import signal
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from coordinator.launch import LaunchOptions, RunningTestnet, launcher_named, load_endpoints
from coordinator.launch.running import NODES_FOLDER
from coordinator.spec import ResolvedTestnet, Scenario, load_testnet, resolve
from coordinator.spec.agglayer import BRIDGED_TOKEN, L1_CHAIN_ID
from coordinator.stages.live import LiveView, table_of
from coordinator.stages.outside import check_outside
from nodes.evm.agglayer_contracts import (
    BANK,
    BRIDGE,
    GLOBAL_EXIT_ROOT,
    MARKET_1,
    MARKET_2,
    ROUTER,
    bridged_token_address,
)
from nodes.evm.genesis import PREDEPLOYED
from nodes.host import new_event_loop
from nodes.model.errors import InvalidInput
from nodes.model.ids import hex_of
from nodes.model.json_form import to_json
from nodes.model.wide_area import CLIENTS

RUNS = Path("runs")
REFRESH_S = 1.0
_BUSY_NODES = 16
"""Rows of the live table; a terminal has few lines."""


def run_up(
    scenario: Scenario | None = None,
    *,
    resume: Path | None = None,
    directory: Path | None = None,
    launcher: str = "",
    options: LaunchOptions | None = None,
    as_json: bool = False,
    console: Console | None = None,
) -> None:
    """Run a testnet until SIGINT or SIGTERM: of a scenario in a new directory, or the stopped one in `resume`.

    With `as_json`, standard output gets one JSON object when every node is usable, and nothing else. Blocks; call it in
    the main thread. Raises TestbedError where a node does not start, or breaks for good.
    """
    assert (scenario is None) != (resume is None), "either a scenario or a directory to resume"
    if resume is not None:
        testnet, directory = load_testnet(resume), resume
        if not (resume / NODES_FOLDER).is_dir():
            own = resume / "testnet"
            hint = f"; that of this run is in {own}" if (own / NODES_FOLDER).is_dir() else ""
            raise InvalidInput(f"{resume} holds no stopped testnet: it has no folder {NODES_FOLDER}/{hint}")
    else:
        assert scenario is not None
        testnet = resolve(scenario)
        directory = directory or new_directory(f"up-{scenario.name}")
    if launcher:
        testnet = replace(testnet, launcher=launcher)
    # Nobody reads its traces, and a testnet that runs for days would fill the disk with them.
    options = replace(options or LaunchOptions(), trace=False)
    stage = _Up(testnet, directory, options, as_json=as_json, console=console or Console())
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(stage.run())


def new_directory(name: str) -> Path:
    """A directory of a run that starts now: runs/NAME-DATE-TIME, made."""
    first = directory = RUNS / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    number = 1
    while directory.exists():
        number += 1
        directory = first.with_name(f"{first.name}_{number}")
    directory.mkdir(parents=True)
    return directory


class _Up:
    def __init__(
        self, testnet: ResolvedTestnet, directory: Path, options: LaunchOptions, *, as_json: bool, console: Console
    ) -> None:
        self._testnet = testnet
        self._directory = directory
        self._options = options
        self._as_json = as_json
        self._console = console

    async def run(self) -> None:
        if not self._as_json:
            told = self._options.progress

            def progress(message: str) -> None:
                told(message)
                self._console.print(f"[dim]{message}[/dim]")

            self._options = replace(self._options, progress=progress)
        launcher = launcher_named(self._testnet.launcher, ray_address=self._options.ray_address)
        await check_outside(self._testnet, ray_address=self._options.ray_address)
        async with launcher.start(self._testnet, self._directory, self._options) as running:
            # Set after the start: Ray installs a handler of its own for SIGTERM.
            stopping = asyncio.Event()
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, stopping.set)
            if self._as_json:
                self._console.file.write(json.dumps(description(running)) + "\n")
                self._console.file.flush()
                await stopping.wait()
            else:
                self._introduce(running)
                await self._show(running, stopping)
                self._console.print("[dim]stopping[/dim]")
        if not self._as_json:
            self._console.print(
                f"stopped; start it again with: lockstep up --resume {self._directory}", soft_wrap=True, highlight=False
            )

    def _introduce(self, running: RunningTestnet) -> None:
        def say(text: str | Table = "") -> None:
            # Addresses and keys are to be copied: no line of them may be folded or cut, however narrow the terminal.
            self._console.print(text, soft_wrap=True, highlight=False)

        reached = running.endpoints()
        say(f"\n{len(running.rollups)} rollups ready after {running.ready_s:.1f} s")
        say(f"files: {running.directory}")
        say(f"sequencer ({self._testnet.backend}, gRPC): {reached.sequencer_address}")
        if reached.order_rpc_url:
            say(f"chain that orders ({self._testnet.backend}, JSON-RPC and WebSocket): {reached.order_rpc_url}")
        if reached.submit_address != reached.sequencer_address:
            say(f"super builder, which takes users' bundles (gRPC): {reached.submit_address}")
        if reached.agglayer_address:
            say(f"aggregation layer ({self._testnet.atomicity}, gRPC): {reached.agglayer_address}")
            say(f"L1 (chain id {L1_CHAIN_ID}, JSON-RPC): {reached.l1_rpc_url}")
            if not running.attesters_separate:
                say("attesters share one process here: their threshold means nothing")
        if self._testnet.wide_area is not None:
            region = self._testnet.wide_area.region_of(CLIENTS)
            say(f"links are emulated; these addresses lead through those of users in {region}")
        say()
        rollups = Table(title="JSON-RPC, HTTP and WebSocket on the same port", title_justify="left")
        for heading in ("rollup", "chain id", "url"):
            rollups.add_column(heading, no_wrap=True)
        for rollup in running.rollups:
            rollups.add_row(rollup.name, str(rollup.chain_id), rollup.rpc_url)
            for replica in rollup.replicas:
                rollups.add_row(replica.name, str(rollup.chain_id), replica.rpc_url)
        say(rollups)
        if self._testnet.users:
            layer = self._testnet.agglayer
            by_deposits = layer is not None and layer.funded_by_deposits
            where = "on L1 only; on rollups they own what they deposit there" if by_deposits else "on every rollup"
            say(f"\nFunded {where} (account, private key). Test keys, known to all: never use them elsewhere.")
        for account in self._testnet.user_accounts:
            say(f"  {hex_of(account.address)}  {hex_of(account.key)}")
        say("\nContracts on every rollup:")
        for name, address in contract_addresses(self._testnet).items():
            say(f"  {address}  {name}")
        say("\nCtrl-C ends the testnet; its state is kept.\n")

    async def _show(self, running: RunningTestnet, stopping: asyncio.Event) -> None:
        """The live table on a terminal; elsewhere just wait."""
        if not self._console.is_terminal:
            await stopping.wait()
            return
        async with LiveView(running.endpoints()) as view:
            with Live(console=self._console, auto_refresh=False) as live:
                while not stopping.is_set():
                    rows = await view.rows()
                    hidden = len(rows) - _BUSY_NODES
                    if hidden > 0:
                        # The slowest nodes are the ones to look at.
                        rows = [rows[0], *sorted(rows[1:], key=lambda row: -(row.lag or 0))[: _BUSY_NODES - 1]]
                    title = f"the {_BUSY_NODES - 1} rollup nodes that lag most" if hidden > 0 else ""
                    live.update(table_of(rows, title=title), refresh=True)
                    with suppress(TimeoutError):
                        await asyncio.wait_for(stopping.wait(), REFRESH_S)


def contract_addresses(testnet: ResolvedTestnet) -> dict[str, str]:
    """Name to address of what stands on every rollup: Lockstep's contracts and the scenario's own.

    Those have the names of their artifacts, from the second of a name on with a number: Vault, Vault-2.
    """
    named: dict[str, bytes] = dict(PREDEPLOYED)
    if testnet.uses_agglayer:
        named |= {
            "AgglayerBridge": BRIDGE,
            "GlobalExitRootL2": GLOBAL_EXIT_ROOT,
            "Bank": BANK,
            "ArbitrageRouter": ROUTER,
        }
        named |= {"Market1": MARKET_1, "Market2": MARKET_2, "BridgedToken": bridged_token_address(BRIDGED_TOKEN)}
    for item in testnet.contracts:
        stem = name = Path(item.artifact).stem
        number = 1
        while name in named:
            number += 1
            name = f"{stem}-{number}"
        named[name] = item.address
    return {name: hex_of(address) for name, address in named.items()}


def description(running: RunningTestnet) -> dict[str, Any]:
    """What `up --json` prints."""
    testnet, reached = running.testnet, running.endpoints()
    return {
        "directory": str(running.directory.resolve()),
        "launcher": running.launcher,
        "backend": testnet.backend,
        "ready_s": round(running.ready_s, 3),
        "sequencer": {"grpc": reached.sequencer_address, "chain_id": hex_of(testnet.params.sequencer_chain_id)},
        "atomicity": testnet.atomicity,
        "submit": {"grpc": reached.submit_address},
        "agglayer": {"grpc": reached.agglayer_address} if reached.agglayer_address else None,
        "order_rpc_url": reached.order_rpc_url or None,
        "l1": {"chain_id": L1_CHAIN_ID, "rpc_url": reached.l1_rpc_url} if reached.l1_rpc_url else None,
        "rollups": [
            {
                "name": rollup.name,
                "chain_id": rollup.chain_id,
                "rpc_url": rollup.rpc_url,
                "ws_url": rollup.rpc_url.replace("http://", "ws://", 1),
                "grpc": rollup.grpc_address,
                "replicas": [{"name": node.name, "rpc_url": node.rpc_url} for node in rollup.replicas],
            }
            for rollup in running.rollups
        ],
        "accounts": [
            {"address": hex_of(account.address), "private_key": hex_of(account.key)}
            for account in testnet.user_accounts
        ],
        "contracts": contract_addresses(testnet),
    }


def run_status(directory: Path, *, as_json: bool = False, console: Console | None = None) -> bool:
    """Print what the nodes of the testnet in `directory` answer; whether all of them did and none is stalled.

    Raises InvalidInput where no testnet runs there.
    """
    console = console or Console()
    endpoints = load_endpoints(directory)

    async def ask() -> bool:
        async with LiveView(endpoints) as view:
            rows = await view.rows()
        if as_json:
            document = {"scenario": endpoints.scenario, "launcher": endpoints.launcher, "nodes": to_json(rows)}
            console.file.write(json.dumps(document) + "\n")
        else:
            console.print(table_of(rows, title=f"{endpoints.scenario} on {endpoints.launcher}, {directory}"))
        return all(row.state == "ok" for row in rows)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(ask())
