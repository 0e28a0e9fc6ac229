"""Differential fuzz: whatever derivation's decoder accepts, the engine takes; no list is ever refused whole.

Lists mix valid transactions of every type with boundary values in every field and byte-level mutations that the decoder
still accepts. Plain transfers stand between them and must all execute. The engine's reading of every included payload
is compared with the decoder's, field by field, and every outcome with the receipt.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodes.evm.engine import AnvilEngine, _reorg_params
from nodes.model.execution import AbortReason, DropReason, ExecutedBlock, SkipReason, Status, Transaction
from nodes.model.ids import hex_of
from nodes.rules.payload import AccessList, UnsignedTransaction, address_of, decode, sign
from tests.support import engine_chain as chain
from tests.support.engine_chain import engine_at

LISTS = 100
CANDIDATES = 40
GUARD_KEY = 0
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x100, 20_999, 21_000, 21_001, 53_000, 2**24, 2**31, 2**32 - 1, 2**32, 2**53,
         2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1, 2**64, 2**96, 2**127, 2**128 - 1, 2**128, 2**255,
         2**256 - 1)  # fmt: skip
SIZES = (0, 1, 31, 38, 55, 56, 255, 256, 1_000, 49_152, 49_153, 100_000)
Pair = tuple[bytes, Transaction]


def number(rng: random.Random, below: int) -> int:
    if rng.random() < 0.7:
        return rng.choice([edge for edge in EDGES if edge < below])
    return rng.getrandbits(rng.randrange(1, below.bit_length()))


def access_list(rng: random.Random) -> AccessList:
    return tuple(
        (rng.choice((rng.randbytes(20), chain.STORER)), tuple(rng.randbytes(32) for _ in range(rng.randrange(4))))
        for _ in range(rng.randrange(6))
    )


def calldata(rng: random.Random) -> bytes:
    size = rng.choice(SIZES[:9] if rng.random() < 0.9 else SIZES)
    return rng.choice((rng.randbytes, bytes))(size)


def candidate(rng: random.Random, key: int, nonce: int, gas_cap: int, chain_id: int) -> bytes:
    tx_type = rng.choice((0, 1, 2))
    fee = 0 if rng.random() < 0.5 else number(rng, 2**128)
    transaction = UnsignedTransaction(
        tx_type=tx_type,
        chain_id=chain_id,
        nonce=nonce if rng.random() < 0.6 else number(rng, 2**64 - 1),
        gas_limit=min(gas_cap, rng.choice((21_000, 100_000, 2_000_000, number(rng, 2**64)))),
        max_fee_per_gas=fee,
        max_priority_fee_per_gas=fee if tx_type != 2 or rng.random() < 0.6 else number(rng, 2**128),
        to=rng.choice((b"", rng.choice(chain.ADDRESSES), rng.randbytes(20), bytes(19) + bytes([rng.randrange(20)]),
                       chain.REVERTER, chain.CALLER, chain.STORER)),
        value=0 if rng.random() < 0.5 else number(rng, 2**256),
        calldata=calldata(rng),
        access_list=access_list(rng) if tx_type and rng.random() < 0.4 else (),
    )  # fmt: skip
    payload = sign(transaction, chain.KEYS[key])
    return mutated(rng, payload) if rng.random() < 0.4 else payload


def mutated(rng: random.Random, payload: bytes) -> bytes:
    data = bytearray(payload)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                data[at] ^= 1 << rng.randrange(8)
            case 2:
                data.insert(at, rng.randrange(256))
            case _ if len(data) > 1:
                del data[at]
            case _:
                pass
    return bytes(data)


def candidates(rng: random.Random, nonces: dict[bytes, int], gas_cap: int, chain_id: int) -> Iterator[Pair]:
    for _ in range(CANDIDATES):
        key = rng.randrange(1, len(chain.KEYS))
        payload = candidate(rng, key, nonces.get(chain.ADDRESSES[key], 0), gas_cap, chain_id)
        transaction = decode(payload, chain_id)
        if not isinstance(transaction, DropReason) and transaction.gas_limit <= gas_cap:
            yield payload, transaction


def with_guards(pairs: list[Pair], nonce: int) -> list[Pair]:
    """The list with three plain transfers, first, in the middle and last."""
    guards = [chain.signed(GUARD_KEY, nonce + at) for at in range(3)]
    half = len(pairs) // 2
    return [guards[0], *pairs[:half], guards[1], *pairs[half:], guards[2]]


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_what_the_decoder_accepts_the_engine_builds(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    nonces: dict[bytes, int] = {}
    statuses: set[Status] = set()
    reasons: set[SkipReason | AbortReason | None] = set()
    async with engine_at(tmp_path, rewind_window=4) as engine:
        for turn in range(LISTS):
            pairs = list(candidates(rng, nonces, chain.PARAMS.leg_gas_cap, chain.CHAIN))
            pairs += rng.sample(pairs, min(2, len(pairs)))
            pairs = with_guards(pairs, 3 * turn)
            block = await engine.build_block(pairs, timestamp_s=chain.GENESIS_TIME_S + rng.randrange(100))
            await compare(engine, pairs, block)
            for (_, transaction), outcome in zip(pairs, block.outcomes, strict=True):
                statuses.add(outcome.status)
                reasons.add(outcome.reason)
                if outcome.status is not Status.SKIPPED:
                    nonces[transaction.sender] = transaction.nonce + 1
                else:
                    assert transaction.sender != chain.ADDRESSES[GUARD_KEY]
    # The fuzz is worth its name: every outcome came up, but for the reason that no funded sender here can give.
    assert statuses == set(Status) - {Status.ABORTED}
    assert reasons == {*SkipReason, None}


async def compare(engine: AnvilEngine, pairs: list[Pair], block: ExecutedBlock) -> None:
    header = await engine.request("eth_getBlockByNumber", [hex(block.number), True])
    receipts = await engine.request("eth_getBlockReceipts", [hex(block.number)])
    built = [
        (transaction, outcome)
        for (_, transaction), outcome in zip(pairs, block.outcomes, strict=True)
        if outcome.status is not Status.SKIPPED
    ]
    assert [read(entry) for entry in header["transactions"]] == [
        (
            transaction.tx_hash,
            transaction.sender,
            transaction.tx_type,
            transaction.nonce,
            transaction.to,
            transaction.value,
            transaction.gas_limit,
            transaction.calldata,
        )
        for transaction, _ in built
    ]
    assert [int(receipt["status"], 16) for receipt in receipts] == [outcome.status for _, outcome in built]


def read(entry: dict[str, Any]) -> tuple[bytes, bytes, int, int, bytes, int, int, bytes]:
    return (
        bytes.fromhex(entry["hash"][2:]),
        bytes.fromhex(entry["from"][2:]),
        int(entry["type"], 16),
        int(entry["nonce"], 16),
        bytes.fromhex((entry["to"] or "0x")[2:]),
        int(entry["value"], 16),
        int(entry["gas"], 16),
        bytes.fromhex(entry["input"][2:]),
    )


@pytest.mark.parametrize("chain_id", [1, 2**32 + 5, 2**63 - 1])
async def test_no_list_is_refused_whole_whatever_the_gas_and_the_chain(tmp_path: Path, chain_id: int) -> None:
    """Below the rules that stand between decoder and engine: any gas limit, and chain ids of every size."""
    rng = random.Random(chain_id)
    engine = await AnvilEngine.start(
        chain.binary(), chain.genesis(chain_id), chain.make_params(chain_id), tmp_path, rewind_window=2
    )
    try:
        for nonce in range(LISTS // 5):
            pairs = list(candidates(rng, {}, 2**64 - 1, chain_id))
            guard = sign(
                UnsignedTransaction(chain_id=chain_id, nonce=nonce, gas_limit=21_000, to=chain.RECIPIENT),
                chain.KEYS[GUARD_KEY],
            )
            await engine._build.request("evm_mine")
            await engine._build.request_raw("anvil_reorg", _reorg_params([*(payload for payload, _ in pairs), guard]))
            header = await engine._build.request("eth_getBlockByNumber", ["latest", True])
            last = header["transactions"][-1]
            assert (last["from"], int(last["nonce"], 16)) == (hex_of(address_of(chain.KEYS[GUARD_KEY])), nonce)
    finally:
        await engine.stop()
