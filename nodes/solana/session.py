"""The Solana chain as one sequencer has it: an endpoint, funded accounts, a deployed inbox, and what keeps them there.

Started again with the same directory it finds the same chain and the same inbox. It neither posts nor reads.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from solders.keypair import Keypair

from nodes.model.errors import InvalidInput, Unavailable
from nodes.model.faults import SolanaTrouble, Trouble
from nodes.model.ids import RollupId
from nodes.model.solana import DEVNODE, SURFPOOL, Slot, SolanaTiming
from nodes.ports import Link
from nodes.rules.hashes import sha256
from nodes.solana.deploy import Inbox, deploy_inbox, memo_inbox, origin_of
from nodes.solana.devnode.config import ChainConfig, DevnodeConfig
from nodes.solana.endpoint import SolanaEndpoint, SolanaProcess
from nodes.solana.finality import until_final
from nodes.solana.funding import balances_of, fund
from nodes.solana.keypairs import derived_keypair, keypair_from_bytes, read_keypair
from nodes.solana.ports import SolanaRpc
from nodes.solana.program import read_elf
from nodes.solana.rpc import AGAVE_BODY_BYTES, HttpSolanaRpc

OWN_NODE_BODY_BYTES = 1024 * 1024
"""A dev node takes larger batches than a validator."""
OWN_HISTORY_BLOCKS = 200_000
"""Blocks that a dev node keeps for the reader while that cannot go on: 22 hours of slots of 400 ms, 440 bytes for each
that is empty. Its sequencer's transactions do not push them out: beyond what the reader has seen there are no more of
them than `SubmitterRules.in_flight_max`."""
RESTART_FIRST_PAUSE_S = 0.2
RESTART_LONGEST_PAUSE_S = 10.0
_MEMO_ORIGIN_FILE = "memo_origin_slot"
_DEPLOYMENT_FILE = "deployment_lamports"
_LOOKUP_TABLE_FILE = "lookup_table.json"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConfig:
    """What a sequencer wants of its Solana."""

    solana: str
    """DEVNODE, SURFPOOL, or the URL of an RPC."""
    ws_url: str
    timing: SolanaTiming
    keypair: str
    """Of the first payer, where `solana` is a URL; see `nodes.solana.keypairs.read_keypair`."""
    payer_seed: bytes
    """32 bytes; of the first payer, where the chain is this node's own."""
    payers: int
    rollup_ids: tuple[RollupId, ...]
    """Ascending, with the id of notices."""
    chain_id: bytes
    """Of the testnet: each has an inbox of its own."""
    has_lookup_table: bool
    is_memo: bool


class SolanaSession:
    """Open one with `open`; `keep_alive` runs beside those who use it."""

    def __init__(
        self,
        config: SessionConfig,
        directory: Path,
        *,
        link: Link,
        say: Callable[[str], None] = _log.info,
    ) -> None:
        """`say` is told of progress."""
        self._config = config
        self._directory = directory
        self._link = link
        self._say = say
        self._process: SolanaProcess | None = None
        self._devnode: DevnodeConfig | None = None
        self._is_stopping = False
        self.endpoint = SolanaEndpoint(kind=config.solana, rpc_url=config.solana, ws_url=config.ws_url)
        self.deployment_lamports = 0
        """Fees and rent of the inbox, paid once."""

    async def open(self, opened: AsyncExitStack) -> None:
        """Start or connect, fund, deploy. Raises Unavailable, InvalidInput, MissingTool; may be called again."""
        config = self._config
        if config.solana == DEVNODE:
            self._devnode = DevnodeConfig(
                directory=str(self._directory / DEVNODE),
                # Time 0: that of the first start, which the ledger keeps.
                chain=ChainConfig(timing=config.timing, genesis_time_s=0, history_blocks=OWN_HISTORY_BLOCKS),
            )
            self._process = await SolanaProcess.start_devnode(self._devnode)
        elif config.solana == SURFPOOL:
            self._process = await SolanaProcess.start_surfpool(
                self._directory / SURFPOOL, slot_ms=config.timing.slot_ms
            )
        else:
            self.endpoint = SolanaEndpoint(
                kind=str(urlsplit(config.solana).hostname), rpc_url=config.solana, ws_url=config.ws_url
            )
        if self._process is not None:
            opened.push_async_callback(self._stop)
            self.endpoint = self._process.endpoint
            self._keep_port(self.endpoint)
        self.payers = self._payers()
        self.rpc = await opened.enter_async_context(self._connect())
        await self._prepare(self.rpc)

    @property
    def pid(self) -> int:
        """Of the Solana node that was started here; 0 where it is somebody else's."""
        return self.endpoint.pid

    async def keep_alive(self) -> None:
        """Start a dev node again when it ends, as often as it takes.

        Raises Unavailable where another node that was started here ends, InvalidInput or MissingTool where the dev
        node can never start again.
        """
        while self._process is not None:
            end = await self._process.wait_ended()
            if self._is_stopping:
                return
            if self._devnode is None:
                raise Unavailable(f"{end} with its chain; a Surfpool keeps nothing, so there is nothing to go on with")
            _log.warning("%s starting it again", end)
            self._process = await self._start_again(self._devnode)
            self.endpoint = self._process.endpoint
            self._say(f"the dev node goes on as process {self.pid}")

    async def _start_again(self, devnode: DevnodeConfig) -> SolanaProcess:
        pause_s = RESTART_FIRST_PAUSE_S
        while True:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RESTART_LONGEST_PAUSE_S)
            try:
                return await SolanaProcess.start_devnode(devnode)
            except Unavailable as error:
                _log.warning("%s; it is tried again in %g s, and nothing accepted is lost", error, pause_s)

    def kill(self) -> None:
        """End the node that was started here, hard. Raises InvalidInput where there is none."""
        if self._process is None:
            raise InvalidInput(f"the Solana node at {self.endpoint.kind} is not this testnet's to kill")
        self._process.kill()

    async def trouble(self, trouble: SolanaTrouble) -> None:
        """Let the dev node have a trouble. Raises InvalidInput where it is no dev node's chain, or it refuses."""
        if not self.endpoint.is_devnode:
            raise InvalidInput(
                f"{trouble.trouble.value} is a fault of the dev node, and this chain is {self.endpoint.kind}"
            )
        method, options = _ADMIN[trouble.trouble](trouble)
        await self.rpc.call(method, [options])

    def _connect(self) -> HttpSolanaRpc:
        limit = OWN_NODE_BODY_BYTES if self.endpoint.is_devnode else AGAVE_BODY_BYTES
        ws_url = self._link(self.endpoint.ws_url, "solana") if self.endpoint.ws_url else None
        return HttpSolanaRpc(self._link(self.endpoint.rpc_url, "solana"), ws_url, batch_bytes_max=limit)

    async def _prepare(self, rpc: SolanaRpc) -> None:
        tick = await self._tick(rpc)
        await fund(rpc, self.payers, can_airdrop=self.endpoint.can_airdrop, tick=tick)
        spent = _Spending(self._directory / _DEPLOYMENT_FILE, rpc, self.payers)
        await spent.begin()
        inbox = self.inbox = await self._find_inbox(rpc, tick)
        table = (inbox.lookup_table.address,) if inbox.lookup_table is not None else ()
        states = await until_final(rpc, list(inbox.accounts.values()), table, tick=tick)
        if states:
            # Again: a fork may have moved what was only confirmed, and later starts find what is final.
            self.inbox = replace(inbox, origin_slot=origin_of(states))
        self.deployment_lamports = await spent.end()
        if tick is not None:
            await rpc.call("devnode_run")

    async def _find_inbox(self, rpc: SolanaRpc, tick: Callable[[], Awaitable[None]] | None) -> Inbox:
        config = self._config
        if config.is_memo:
            return memo_inbox(config.rollup_ids, origin_slot=await self._memo_origin(rpc))
        return await deploy_inbox(
            rpc,
            self.payers[0],
            config.rollup_ids,
            elf=read_elf(),
            program_keypair=derived_keypair(self.payers[0], f"inbox {config.chain_id.hex()}"),
            lookup_table_record=self._directory / _LOOKUP_TABLE_FILE if config.has_lookup_table else None,
            tick=tick,
            progress=self._say,
        )

    async def _tick(self, rpc: SolanaRpc) -> Callable[[], Awaitable[None]] | None:
        """How a dev node that was never run is moved, so that a deployment need not wait for slots; else None."""
        if not self.endpoint.is_devnode or (await rpc.call("devnode_status"))["running"]:
            return None

        async def tick() -> None:
            await rpc.call("devnode_tick", [{"slots": 1}])

        return tick

    def _payers(self) -> Sequence[Keypair]:
        config = self._config
        is_own = self.endpoint.can_airdrop
        first = keypair_from_bytes(config.payer_seed) if is_own else read_keypair(config.keypair)
        return [first, *[derived_keypair(first, f"payer {number}") for number in range(2, config.payers + 1)]]

    def _keep_port(self, endpoint: SolanaEndpoint) -> None:
        """A dev node that is started again is found where it was."""
        if self._devnode is not None:
            self._devnode = replace(self._devnode, port=urlsplit(endpoint.rpc_url).port or 0)

    async def _stop(self) -> None:
        self._is_stopping = True
        if self._process is not None:
            await self._process.stop()

    async def _memo_origin(self, rpc: SolanaRpc) -> Slot:
        """The slot of the first start: nothing on chain says from where memos count."""
        path = self._directory / _MEMO_ORIGIN_FILE
        try:
            return Slot(int(path.read_text(encoding="ascii")))
        except FileNotFoundError:
            slot = Slot(int(await rpc.call("getSlot", [{"commitment": "processed"}])))
        except ValueError as error:
            raise InvalidInput(f"{path} cannot be read ({error}); it belongs to the chain beside it") from error
        beside = path.with_suffix(".new")
        beside.write_text(str(slot), encoding="ascii")
        beside.replace(path)
        return slot


class _Spending:
    """What the payers paid for the inbox, rent included: measured by the start that finished it, and kept."""

    def __init__(self, path: Path, rpc: SolanaRpc, payers: Sequence[Keypair]) -> None:
        self._path = path
        self._rpc = rpc
        self._payers = payers
        self._known: int | None = None
        self._before = 0

    async def begin(self) -> None:
        """Before anything is deployed. Raises InvalidInput where the file is none."""
        try:
            self._known = int(self._path.read_text(encoding="ascii"))
        except FileNotFoundError:
            self._before = sum(await balances_of(self._rpc, self._payers))
        except ValueError as error:
            raise InvalidInput(f"{self._path} cannot be read ({error}); delete it: it is for reports only") from error

    async def end(self) -> int:
        """Once the inbox is final: lamports."""
        if self._known is None:
            self._known = self._before - sum(await balances_of(self._rpc, self._payers))
            self._path.write_text(str(self._known), encoding="ascii")
        return self._known


def payer_seed(signing_key: str) -> bytes:
    """The seed of the first payer on a chain of one's own: it must differ from testnet to testnet, and last."""
    return sha256(b"lockstep.solana.payer\0" + signing_key.encode())


_ADMIN: dict[Trouble, Callable[[SolanaTrouble], tuple[str, dict[str, Any]]]] = {
    Trouble.FORK: lambda it: ("devnode_fork", {"depth": it.amount, "reinclude": "shuffled"}),
    Trouble.FORK_AND_LOSE: lambda it: ("devnode_fork", {"depth": it.amount, "reinclude": "none"}),
    Trouble.SKIP_SLOTS: lambda it: ("devnode_skipSlots", {"slots": it.amount}),
    Trouble.DROP_TRANSACTIONS: lambda it: (
        "devnode_dropTransactions",
        {"share": it.amount / 100, "slots": it.for_slots},
    ),
    Trouble.LAG_RPC: lambda it: ("devnode_lag", {"slots": it.amount, "forSlots": it.for_slots}),
    Trouble.RPC_DOWN: lambda it: ("devnode_down", {"forMs": it.amount}),
    Trouble.EXPIRE_BLOCKHASHES: lambda it: ("devnode_expireBlockhashes", {}),
}
