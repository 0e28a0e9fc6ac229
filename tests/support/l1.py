"""A real L1 for tests: node, client, and accounts with ether, on free ports."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from coincurve import PrivateKey

from nodes.ethereum.account import Fees, L1Account
from nodes.ethereum.client import L1Client, L1Receipt
from nodes.ethereum.l1_node import BASE_FEE_WEI, L1Node
from nodes.evm.anvil import find_anvil
from nodes.evm.genesis import Account, ChainParameters, genesis_bytes, genesis_document
from nodes.host.ports import RPC, PortBook
from nodes.model.config import L1NodeConfig
from nodes.model.errors import Unavailable
from nodes.model.ids import Address
from nodes.telemetry.clock import SystemClock
from nodes.telemetry.tracer import DiscardingTracer

L1_CHAIN_ID = 900
ETHER = 10**18
FEES = Fees.above(BASE_FEE_WEI)
QUIET_SLOT_MS = 3_600_000
"""No slot comes during a test: blocks are mined by `L1Node.mine` alone."""


@cache
def anvil() -> Path:
    return find_anvil()


def free_port() -> int:
    """One that no outgoing connection takes before it is listened on: chosen as nodes choose theirs."""
    with TemporaryDirectory() as folder:
        book = PortBook(Path(folder) / "node", host="127.0.0.1")
        with contextlib.closing(book):
            return book.reserve([RPC])[RPC]


def account(number: int, *, chain_id: int = L1_CHAIN_ID) -> L1Account:
    """Account 1, 2, ...; each has ether at genesis."""
    return L1Account(key_of(number), chain_id=chain_id)


def key_of(number: int) -> PrivateKey:
    return PrivateKey(number.to_bytes(32, "big"))


def genesis(accounts: Mapping[Address, Account], *, chain_id: int = L1_CHAIN_ID, funded: int = 8) -> str:
    chain = ChainParameters(
        chain_id=chain_id, timestamp_s=1_700_000_000, gas_limit=60_000_000, coinbase=Address(bytes(19) + b"\xfe")
    )
    users = {account(number).address: Account(balance_wei=1_000 * ETHER) for number in range(1, funded + 1)}
    return genesis_bytes(genesis_document(chain, {**users, **accounts})).decode()


def l1_config(
    accounts: Mapping[Address, Account] | None = None, *, slot_time_ms: int = QUIET_SLOT_MS, finality_slots: int = 1
) -> L1NodeConfig:
    return L1NodeConfig(
        name="l1",
        chain_id=L1_CHAIN_ID,
        genesis=genesis(accounts or {}),
        slot_time_ms=slot_time_ms,
        finality_slots=finality_slots,
        rpc_port=free_port(),
    )


@dataclass(frozen=True, slots=True)
class RunningL1:
    node: L1Node
    client: L1Client

    async def send(
        self, sender: L1Account, to: bytes, calldata: bytes = b"", *, value_wei: int = 0, gas_limit: int = 2_000_000
    ) -> L1Receipt:
        """Send one transaction, mine a block, and return the receipt."""
        signed = sender.sign_call(
            to=to,
            calldata=calldata,
            nonce=await self.client.nonce(sender.address, "pending"),
            gas_limit=gas_limit,
            fees=FEES,
            value_wei=value_wei,
        )
        await self.client.send_raw(signed.raw)
        await self.node.mine()
        receipt = await self.client.receipt(signed.hash)
        assert receipt is not None
        return receipt


@contextlib.asynccontextmanager
async def running_l1(config: L1NodeConfig, directory: Path) -> AsyncIterator[RunningL1]:
    node = L1Node(config, directory=directory, binary=anvil(), clock=SystemClock(), tracer=DiscardingTracer())
    async with L1Client(node.rpc_url) as client, asyncio.TaskGroup() as group:
        running = group.create_task(node.run())
        try:
            await node.wait_ready()
        except Unavailable:
            await running  # raises what ended it
            raise
        try:
            yield RunningL1(node, client)
        finally:
            node.stop()
