"""A rollup chain on a real engine for tests: funded keys, its genesis, and short ways to sign and start."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

from coincurve import PrivateKey

from nodes.evm.anvil import find_anvil
from nodes.evm.engine import AnvilEngine
from nodes.evm.genesis import Account, ChainParameters, genesis_document
from nodes.model.execution import DropReason, RollupParams, Transaction
from nodes.model.ids import Address, rollup_id_of
from nodes.rules.payload import UnsignedTransaction, address_of, decode, sign

CHAIN = 7001
GENESIS_TIME_S = 1_700_000_000
KEYS = tuple(PrivateKey((1000 + at).to_bytes(32, "big")) for at in range(24))
ADDRESSES = tuple(address_of(key) for key in KEYS)
POOR = PrivateKey(b"\x55" * 32)
"""Its account does not exist."""
CODE_KEY = PrivateKey(b"\x56" * 32)
"""Its account holds ether and code."""
RECIPIENT = Address(b"\x77" * 20)
REVERTER = Address(b"\xc1" * 20)
STORER = Address(b"\xc2" * 20)
"""Stores the second word of its calldata at the first; slot 7 holds 9 at genesis."""
HASH_STORER = Address(b"\xc3" * 20)
"""Stores the hash of the fifth last block at the block's number."""
CALLER = Address(b"\xc4" * 20)
"""Calls REVERTER, ignores what happens, and succeeds."""
POISON = bytes.fromhex("6175305b5f5f825f5f60ee5af150600356")
"""Init code that calls an empty account with 30 kB of input for as long as its gas lasts: 150 gas each."""
COINBASE = Address(b"\x11" * 20)

_CODE = {
    REVERTER: "60006000fd",
    STORER: "6020356000355500",
    HASH_STORER: "6005430340435500",
    CALLER: "600060006000600060007" + "3" + "c1" * 20 + "5af100",
}


def make_params(chain_id: int = CHAIN) -> RollupParams:
    return RollupParams(
        rollup_id=rollup_id_of(chain_id),
        name="rollup-1",
        leg_gas_cap=16_777_216,
        max_payloads=4096,
        genesis_time_s=GENESIS_TIME_S,
        coinbase=COINBASE,
    )


PARAMS = make_params()


@cache
def genesis(chain_id: int = CHAIN) -> str:
    accounts = {address: Account(balance_wei=10**24) for address in ADDRESSES}
    accounts |= {address: Account(nonce=1, code=bytes.fromhex(code)) for address, code in _CODE.items()}
    accounts[STORER] = Account(nonce=1, code=bytes.fromhex(_CODE[STORER]), storage={7: 9})
    accounts[address_of(CODE_KEY)] = Account(balance_wei=10**20, code=b"\x00")
    chain = ChainParameters(
        chain_id=chain_id, timestamp_s=GENESIS_TIME_S, gas_limit=PARAMS.block_gas_limit, coinbase=COINBASE
    )
    return json.dumps(genesis_document(chain, accounts))


@cache
def binary() -> Path:
    return find_anvil()


async def start(directory: Path, *, state: bytes | None = None, rewind_window: int = 8, **options: Any) -> AnvilEngine:
    return await AnvilEngine.start(binary(), genesis(), PARAMS, directory, rewind_window, state, **options)


@asynccontextmanager
async def engine_at(
    directory: Path, *, state: bytes | None = None, rewind_window: int = 8, **options: Any
) -> AsyncIterator[AnvilEngine]:
    engine = await start(directory, state=state, rewind_window=rewind_window, **options)
    try:
        yield engine
    finally:
        await engine.stop()


def signed(key: int | PrivateKey, nonce: int, **fields: Any) -> tuple[bytes, Transaction]:
    """A payload and what it decodes to; by default 1 wei to RECIPIENT."""
    wanted: dict[str, Any] = {"gas_limit": 100_000, "to": RECIPIENT, "value": 1} | fields
    secret = KEYS[key] if isinstance(key, int) else key
    return accepted(sign(UnsignedTransaction(chain_id=CHAIN, nonce=nonce, **wanted), secret))


def accepted(payload: bytes, chain_id: int = CHAIN) -> tuple[bytes, Transaction]:
    transaction = decode(payload, chain_id)
    assert not isinstance(transaction, DropReason), transaction
    return payload, transaction


def words(*values: int) -> bytes:
    return b"".join(value.to_bytes(32, "big") for value in values)


def creation(runtime: bytes) -> bytes:
    """Init code that leaves `runtime`."""
    size = len(runtime).to_bytes(2, "big")
    return b"\x61" + size + b"\x60\x0f\x60\x00\x39\x61" + size + b"\x60\x00\xf3" + b"\x00" * 1 + runtime


def transfers(nonce: int, count: int) -> Sequence[tuple[bytes, Transaction]]:
    """One transfer of each of the first `count` keys."""
    return [signed(key, nonce) for key in range(count)]
