"""A lazy sequencer behind gRPC and rollup nodes on real engines in one event loop, for integration tests."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

from nodes.evm.anvil import find_anvil
from nodes.evm.engine import AnvilEngine
from nodes.evm.genesis import Account, ChainParameters, genesis_document
from nodes.model.bundle import Bundle
from nodes.model.config import RollupNodeConfig
from nodes.model.execution import RollupParams, TestnetParams
from nodes.model.ids import chain_id_of
from nodes.model.sequenced_block import BlockSequenced
from nodes.ports import Sequencer
from nodes.rollup.divergence_link import Unwatched
from nodes.rules.bundle import bundle_hash
from nodes.rules.sequenced_block import decode_header
from nodes.sequencer.backend import SequencerNode
from nodes.sequencer.lazy import BACKEND as LAZY
from nodes.telemetry.clock import Clock
from nodes.telemetry.tracer import Tracer
from nodes.wire.sequencer import SequencerClient
from nodes.wire.streams import closing
from tests.support.crafting import ADDRESSES, CHAINS, RECIPIENT, LegPlan, bundle, make_testnet
from tests.support.rollup_fakes import WAIT_S, Bench, make_config
from tests.support.sequencer_configs import SIGNING_KEY
from tests.support.sequencers import make_node, serving, submit

HERE, THERE = CHAINS[0], CHAINS[1]
REVERTS = 13
"""Wei that the recipient refuses."""
LOGS = 7
"""Wei for which the recipient emits an event without topics."""
_RECIPIENT_CODE = bytes.fromhex("34600d1460165734600714600f57005b60006000a0005b60006000fd")
EngineHook = Callable[[AnvilEngine], None]
TESTNET = make_testnet()
FINALITY = LAZY.finality_options(LAZY.configure({"signing_key": SIGNING_KEY}))


@cache
def genesis(params: RollupParams) -> str:
    """Funded test keys, and a recipient that refuses 13 wei and logs 7."""
    accounts = {address: Account(balance_wei=10**24) for address in ADDRESSES}
    accounts[RECIPIENT] = Account(nonce=1, code=_RECIPIENT_CODE)  # type: ignore[index]  # 20 bytes
    chain = ChainParameters(
        chain_id=chain_id_of(params.rollup_id),
        timestamp_s=params.genesis_time_s,
        gas_limit=params.block_gas_limit,
        coinbase=params.coinbase,
    )
    return json.dumps(genesis_document(chain, accounts))


def engine_starter(
    params: RollupParams,
    directory: Path,
    *,
    rewind_window: int,
    hook: EngineHook = lambda engine: None,
    genesis_json: str = "",
) -> Callable[[bytes | None], Awaitable[AnvilEngine]]:
    """Starts anvil for a rollup; `hook` sees each engine before the node does."""

    async def start(state: bytes | None) -> AnvilEngine:
        engine = await AnvilEngine.start(
            find_anvil(), genesis_json or genesis(params), params, directory, rewind_window, state
        )
        hook(engine)
        return engine

    return start


def rollup_config(params: RollupParams, name: str, **changes: Any) -> RollupNodeConfig:
    """The config of a node behind the lazy test sequencer."""
    return make_config(
        name,
        rollup_id=params.rollup_id,
        backend="lazy",
        finality_options=FINALITY,
        genesis=genesis(params),
        **changes,
    )


class RealTestnet:
    """One sequencer node with a client, and a way to make rollup nodes that follow it."""

    def __init__(self, directory: Path, node: SequencerNode, client: SequencerClient, testnet: TestnetParams) -> None:
        self.directory = directory
        self.node = node
        self.client = client
        self.testnet = testnet

    def rollup(
        self,
        name: str = "here-1",
        *,
        chain: int = HERE,
        sources: Sequence[Sequencer] = (),
        hook: EngineHook = lambda engine: None,
        watched: Callable[[Clock, Tracer], Unwatched] | None = None,
        **config: Any,
    ) -> Bench:
        """A rollup node that is not running; the same name again is the same directory."""
        params = next(params for params in self.testnet.rollups if chain_id_of(params.rollup_id) == chain)
        directory = self.directory / name
        rewind_window = config.get("rewind_window", 8)
        return Bench(
            directory,
            sources or [self.client],
            engine_starter(params, directory / "engine", rewind_window=rewind_window, hook=hook),
            config=rollup_config(params, name, **config),
            testnet=self.testnet,
            verify_finality=LAZY.verifier(FINALITY),
            watched=watched,
        )

    async def submit(self, *bundles: Bundle) -> None:
        """Submit in one call; every one must be accepted."""
        tickets = await submit(self.client, *bundles)
        assert all(ticket.accepted for ticket in tickets), tickets

    async def head(self) -> int:
        """The sequencer's height."""
        return int((await self.client.status()).head.height)

    async def next_block(self) -> None:
        """Wait until everything submitted so far is in a block."""
        wanted = await self.head() + 1
        # A rollup that tests put nothing on: evidence withheld from the next reader is not withheld from this one.
        rollup_id = self.testnet.rollups[-1].rollup_id
        here = (await self.client.status()).head
        async with asyncio.timeout(WAIT_S), closing(self.client.follow([here], rollup_id)) as events:
            async for event in events:
                if isinstance(event, BlockSequenced) and decode_header(event.block.header).height >= wanted:
                    return


@asynccontextmanager
async def real_testnet(
    directory: Path, *, testnet: TestnetParams = TESTNET, **options: Any
) -> AsyncIterator[RealTestnet]:
    """A running lazy sequencer with 20 ms blocks unless told otherwise."""
    node = make_node(directory / "sequencer", testnet=testnet, **options)
    async with serving(node) as client:
        yield RealTestnet(directory, node, client, testnet)


def pair(
    nonce: int, *, key: int = 0, values: tuple[int, int] = (1, 1), nonces: tuple[int, int] | None = None
) -> Bundle:
    """A transfer on each of two rollups by one key."""
    here, there = nonces or (nonce, nonce)
    return bundle(
        [
            LegPlan(chain=HERE, key=key, nonce=here, value=values[0], gas_limit=60_000),
            LegPlan(chain=THERE, key=key, nonce=there, value=values[1], gas_limit=60_000),
        ]
    )


def hash_of(submitted: Bundle) -> bytes:
    """What a bundle is looked up by."""
    legs = [leg.leg_hash for leg in submitted.legs]
    return bundle_hash(version=submitted.version, expiry=submitted.expiry, leg_hashes=legs)
