"""Rollups with the bridge on real engines, under verdicts, for integration tests."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from coincurve import PrivateKey

from nodes.evm.agglayer_contracts import BRIDGE, GLOBAL_EXIT_ROOT
from nodes.evm.agglayer_genesis import rollup_agglayer_accounts
from nodes.evm.genesis import Account, ChainParameters, genesis_document
from nodes.model.agglayer import NetworkId
from nodes.model.bundle import BUNDLE_VERSION, Bundle, Leg, Trailer
from nodes.model.execution import RollupParams
from nodes.model.ids import Address, LegHash, chain_id_of, rollup_id_of
from nodes.rules.bundle import bundle_hash
from nodes.rules.payload import UnsignedTransaction, sign
from nodes.sequencer.lazy import BACKEND as LAZY
from tests.support.crafting import ADDRESSES, CHAINS, KEYS, RECIPIENT, ROLLUPS, lone, make_testnet
from tests.support.rollup_fakes import Bench
from tests.support.rollup_testnet import FINALITY, RealTestnet, engine_starter, real_testnet
from tests.support.rollup_verdicts import VerdictWorld

TESTNET = make_testnet(ROLLUPS[:2])
ORACLE_KEY = KEYS[7]
FORWARDER = Address(b"\x44" * 20)
"""Calls the bridge with the calldata that it gets."""
_FORWARDER_CODE = bytes.fromhex("365f5f375f5f365f5f73" + BRIDGE.hex() + "5af100")
MESSAGE_FORWARDER = Address(b"\x45" * 20)
"""Receives messages of the bridge, and calls the bridge with what they say."""
_MESSAGE_FORWARDER_CODE = bytes.fromhex("608436038060845f375f5f825f5f73" + BRIDGE.hex() + "5af100")
LOUD_FORWARDER = Address(b"\x46" * 20)
"""As FORWARDER; then it has LOOP pass much data between calls."""
LOOP = Address(b"\x47" * 20)
_LOUD_FORWARDER_CODE = bytes.fromhex(
    "365f5f375f5f365f5f73" + BRIDGE.hex() + "5af1505f5f5f5f5f73" + LOOP.hex() + "62061a80f15000"
)
_LOOP_CODE = bytes.fromhex("6175305b5f5f825f5f60ee5af150600356")
"""Calls an empty account with 30 kB of input for as long as its gas lasts."""
REVERTS = 13
_RECIPIENT_CODE = bytes.fromhex("34600d1460165734600714600f57005b60006000a0005b60006000fd")


def bridge_genesis(params: RollupParams) -> str:
    """Funded test keys, the recipient that refuses 13 wei, the bridge and a contract that calls it."""
    network = NetworkId([rollup.rollup_id for rollup in TESTNET.rollups].index(params.rollup_id) + 1)
    accounts: dict[Address, Account] = {address: Account(balance_wei=10**24) for address in ADDRESSES}
    accounts[Address(RECIPIENT)] = Account(nonce=1, code=_RECIPIENT_CODE)
    accounts[FORWARDER] = Account(nonce=1, code=_FORWARDER_CODE)
    accounts[LOUD_FORWARDER] = Account(nonce=1, code=_LOUD_FORWARDER_CODE)
    accounts[LOOP] = Account(nonce=1, code=_LOOP_CODE)
    accounts[MESSAGE_FORWARDER] = Account(nonce=1, code=_MESSAGE_FORWARDER_CODE)
    accounts |= rollup_agglayer_accounts(network_id=network, oracle=ADDRESSES[7])
    chain = ChainParameters(
        chain_id=chain_id_of(params.rollup_id),
        timestamp_s=params.genesis_time_s,
        gas_limit=params.block_gas_limit,
        coinbase=params.coinbase,
    )
    return json.dumps(genesis_document(chain, accounts))


def call(
    chain: int, to: bytes, calldata: bytes = b"", *, nonce: int, value: int = 0, gas_limit: int = 900_000
) -> UnsignedTransaction:
    """A transaction on one chain."""
    return UnsignedTransaction(
        tx_type=2, chain_id=chain, nonce=nonce, gas_limit=gas_limit, to=to, value=value, calldata=calldata
    )


def alone(transaction: UnsignedTransaction, key: PrivateKey) -> Bundle:
    """Signed, without a trailer."""
    return lone(transaction.chain_id, sign(transaction, key))


def together(legs: Sequence[tuple[UnsignedTransaction, int]]) -> Bundle:
    """A bundle of (transaction, index of its key)."""
    hashes = [transaction.leg_hash(ADDRESSES[key]) for transaction, key in legs]
    wanted = bundle_hash(version=BUNDLE_VERSION, expiry=0, leg_hashes=hashes)
    return Bundle(
        version=BUNDLE_VERSION,
        expiry=0,
        legs=tuple(
            Leg(
                rollup_id=rollup_id_of(transaction.chain_id),
                payload=sign(transaction, KEYS[key], Trailer(wanted, index, len(legs))),
                leg_hash=LegHash(hashes[index]),
            )
            for index, (transaction, key) in enumerate(legs)
        ),
    )


class BridgeWorld(VerdictWorld):
    """A lazy sequencer behind gRPC, a resolver, rollups on anvil."""

    def __init__(self, directory: Path, real: RealTestnet, **params: Any) -> None:
        super().__init__(
            directory, sequencer=real.client, testnet=TESTNET, verify_finality=LAZY.verifier(FINALITY), **params
        )
        self.real = real

    def rollup(self, network_id: int, name: str = "", **options: Any) -> Bench:
        """A rollup node that is not running."""
        params = self.testnet.rollups[network_id - 1]
        name = name or f"rollup-{network_id}"
        start = engine_starter(
            params, self.directory / name / "engine", rewind_window=16, genesis_json=bridge_genesis(params)
        )
        return self.bench(network_id, name, start=start, **options)


@asynccontextmanager
async def bridge_world(directory: Path, **params: Any) -> AsyncIterator[BridgeWorld]:
    """Sequencer and resolver running."""
    async with real_testnet(directory, testnet=TESTNET) as real:
        world = BridgeWorld(directory, real, **params)
        async with world.resolving():
            yield world


__all__ = [
    "BRIDGE",
    "CHAINS",
    "FORWARDER",
    "GLOBAL_EXIT_ROOT",
    "LOUD_FORWARDER",
    "MESSAGE_FORWARDER",
    "ORACLE_KEY",
    "REVERTS",
    "bridge_world",
]
