"""The second EVM against the real engine, transaction by transaction: swaps, reverts, creations, access lists,
deposits, skipped ones, block environment, rewinds; and a state that somebody altered.
"""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from nodes.divergence.checker import LostTrack
from nodes.divergence.values import Sample
from nodes.divergence.world import UntouchedState
from nodes.evm.contracts import encode_call
from nodes.evm.engine import AnvilEngine
from nodes.evm.genesis import (
    POOL,
    TOKEN_A,
    ChainParameters,
    PoolGenesis,
    genesis_alloc,
    genesis_document,
    traders_genesis,
)
from nodes.model.execution import Status
from nodes.model.ids import Address, ChainId
from nodes.rollup.lies import forged_deposit
from nodes.rules.footprint import AccountAfter
from tests.support.divergence import Checked, block_for, engine_effects
from tests.support.engine_chain import (
    ADDRESSES,
    CALLER,
    CHAIN,
    COINBASE,
    GENESIS_TIME_S,
    HASH_STORER,
    PARAMS,
    RECIPIENT,
    REVERTER,
    STORER,
    binary,
    creation,
    engine_at,
    genesis,
    signed,
    transfers,
    words,
)

STORES_RANDOMNESS = bytes.fromhex("44600055426001554160025500")
"""Init code: the block's randomness, time and coinbase into slots 0 to 2; leaves no code."""
DESTROYS_ITSELF = bytes.fromhex("600160005533ff")
"""Init code: stores, then destroys itself to its creator."""
P256_CALLER = bytes.fromhex("60206000600060006101006103e8fa600055600051600155") + b"\x00"
"""Init code: calls P256VERIFY with no input and 1,000 gas, less than it costs, and stores what came of it."""
IDENTITY = Address(bytes(19) + b"\x04")


@pytest.fixture
async def checked(tmp_path: Path) -> AsyncIterator[Checked]:
    async with engine_at(tmp_path, rewind_window=8) as engine:
        yield await Checked.on(engine, tmp_path, PARAMS, genesis())


BLOCKS: dict[str, Callable[[], list[tuple[bytes, Any]]]] = {
    "transfers": lambda: list(transfers(0, 6)),
    "storage set, changed and cleared": lambda: [
        signed(0, 0, to=STORER, calldata=words(5, 77)),
        signed(1, 0, to=STORER, calldata=words(5, 78)),
        signed(2, 0, to=STORER, calldata=words(7, 0)),
        signed(3, 0, to=STORER, calldata=words(7, 9)),
        signed(4, 0, to=STORER, calldata=words(7, 9)),
    ],
    "reverts, at the top and below it": lambda: [
        signed(0, 0, to=REVERTER),
        signed(1, 0, to=CALLER),
        signed(2, 0, to=STORER, calldata=words(1, 1), gas_limit=30_000),  # out of gas
    ],
    "creations": lambda: [
        signed(0, 0, to=b"", value=3, calldata=creation(bytes.fromhex("6001600055"))),
        signed(1, 0, to=b"", value=0, calldata=creation(b"\xef\x00")),  # refused code
        signed(2, 0, to=b"", value=7, calldata=DESTROYS_ITSELF),
        signed(3, 0, to=b"", value=0, calldata=STORES_RANDOMNESS),
        signed(4, 0, to=b"", value=0, calldata=b"\xfe"),
    ],
    "access lists and fees": lambda: [
        signed(0, 0, tx_type=1, to=STORER, calldata=words(3, 4), access_list=((STORER, (words(3), words(9))),)),
        signed(1, 0, to=STORER, calldata=words(3, 5), access_list=((RECIPIENT, ()), (STORER, (words(3),)))),
        signed(2, 0, max_fee_per_gas=10, max_priority_fee_per_gas=3),
        signed(3, 0, tx_type=0, max_fee_per_gas=7, max_priority_fee_per_gas=7),
        signed(4, 0, to=REVERTER, max_fee_per_gas=5, max_priority_fee_per_gas=5),
    ],
    "precompiles": lambda: [
        signed(0, 0, to=IDENTITY, calldata=words(1, 2)),
        signed(1, 0, to=b"", value=0, calldata=P256_CALLER),
        signed(2, 0, to=Address(bytes(19) + b"\x08"), value=0, calldata=bytes(112_704), gas_limit=16_000_000),
    ],
    "deposits": lambda: [forged_deposit(16, ChainId(CHAIN)), *transfers(0, 2)],
    "skipped ones": lambda: [
        signed(0, 1),
        signed(0, 0),
        signed(0, 0),
        signed(1, 0, value=10**25),
        signed(2, 0, gas_limit=21_000, calldata=words(1)),
        signed(3, 0, max_fee_per_gas=1, max_priority_fee_per_gas=2),
        signed(4, 0, to=b"", value=0, calldata=bytes(50_000), gas_limit=16_000_000),
        signed(5, 0),
    ],
    "block environment": lambda: [signed(0, 0, to=HASH_STORER), signed(1, 0, to=b"", calldata=STORES_RANDOMNESS)],
}


@pytest.mark.parametrize("name", BLOCKS)
async def test_the_second_evm_does_what_the_engine_does(checked: Checked, name: str) -> None:
    first = [signed(23, nonce) for nonce in range(2)]
    _, found = await checked.build(first, timestamp_s=GENESIS_TIME_S + 1)
    assert not found
    block = BLOCKS[name]()
    built, found = await checked.build(block, timestamp_s=GENESIS_TIME_S + 3)
    assert not found
    assert any(outcome.status is not Status.SKIPPED for outcome in built.outcomes)
    assert not await checked.samples(built, block)


async def test_swaps(tmp_path: Path) -> None:
    traders = traders_genesis(ADDRESSES, amount=10**24)
    alloc = genesis_alloc(
        funded_wei=dict.fromkeys(ADDRESSES, 10**24),
        token_a=traders,
        token_b=traders,
        pool=PoolGenesis(reserve_a=10**24, reserve_b=2 * 10**24),
    )
    chain = ChainParameters(
        chain_id=CHAIN, timestamp_s=GENESIS_TIME_S, gas_limit=PARAMS.block_gas_limit, coinbase=COINBASE
    )
    document = json.dumps(genesis_document(chain, alloc))
    engine = await AnvilEngine.start(binary(), document, PARAMS, tmp_path, 8)
    try:
        checked = await Checked.on(engine, tmp_path, PARAMS, document)
        sell = encode_call("swap(address,uint256,uint256)", TOKEN_A, 10**15, 0)
        greedy = encode_call("swap(address,uint256,uint256)", TOKEN_A, 10**15, 10**18)
        block = [
            signed(key, 0, to=POOL, value=0, gas_limit=400_000, calldata=greedy if key == 3 else sell)
            for key in range(8)
        ]
        built, found = await checked.build(block, timestamp_s=GENESIS_TIME_S + 1)
        assert [outcome.status for outcome in built.outcomes].count(Status.REVERTED) == 1
        assert not found
        assert not await checked.samples(built, block)
    finally:
        await engine.stop()


async def test_an_altered_balance_is_found_at_the_first_transaction_that_it_affects(checked: Checked) -> None:
    await checked.build(transfers(0, 4), timestamp_s=GENESIS_TIME_S + 1)
    await checked.engine.alter(ADDRESSES[2], slot=b"", add=5)
    _, found = await checked.build([signed(0, 1), signed(1, 1)], timestamp_s=GENESIS_TIME_S + 2)
    assert not found  # it touches nobody yet
    block = [signed(0, 2), signed(2, 1, value=0), signed(2, 2)]
    _, found = await checked.build(block, timestamp_s=GENESIS_TIME_S + 3)
    (one,) = found
    assert (one.number, one.position, one.tx_hash) == (3, 1, block[1][1].tx_hash)
    assert (one.difference.address, one.difference.field) == (ADDRESSES[2], "balance")
    assert int(one.difference.engine, 16) - int(one.difference.checker, 16) == 5
    assert one.engine_footprint != one.checker_footprint
    # The engine's values were taken over: one fault is told once.
    _, found = await checked.build([signed(2, 3)], timestamp_s=GENESIS_TIME_S + 4)
    assert not found


async def test_an_altered_slot_is_found_where_it_is_written(checked: Checked) -> None:
    await checked.build(transfers(0, 1), timestamp_s=GENESIS_TIME_S + 1)
    await checked.engine.alter(STORER, slot=words(3), add=55)
    block = [
        signed(1, 0, to=STORER, value=0, calldata=words(4, 1)),
        signed(2, 0, to=STORER, value=0, calldata=words(3, 55)),
    ]
    _, found = await checked.build(block, timestamp_s=GENESIS_TIME_S + 2)
    (one,) = found
    assert one.position == 1
    assert one.difference.address == STORER
    # The engine saw 55 before as well, so that for it nothing changed.
    assert (one.difference.engine, one.difference.checker) == ("unchanged", "0x1")


async def test_an_altered_balance_that_lets_a_transaction_in_is_found(checked: Checked) -> None:
    await checked.engine.alter(ADDRESSES[0], slot=b"", add=10**24)
    _, found = await checked.build([signed(0, 0, value=15 * 10**23)], timestamp_s=GENESIS_TIME_S + 1)
    (one,) = found
    assert (one.difference.field, one.difference.engine) == ("inclusion", "executed")
    assert "balance" in one.difference.checker


async def test_blocks_that_were_replaced_are_taken_back(checked: Checked) -> None:
    await checked.build(
        [*transfers(0, 2), signed(3, 0, to=STORER, calldata=words(1, 1))], timestamp_s=GENESIS_TIME_S + 1
    )
    for nonce in (1, 2):
        built, found = await checked.build(
            [*transfers(nonce, 2), signed(3, nonce, to=STORER, calldata=words(1, 0))], timestamp_s=GENESIS_TIME_S + 2
        )
        assert not found
    await checked.engine.rewind(1)
    for nonce in (1, 2):
        built, found = await checked.build(
            [*transfers(nonce, 3), signed(3, nonce, to=STORER, calldata=words(nonce, 4))],
            timestamp_s=GENESIS_TIME_S + 5,
        )
        assert not found
    assert checked.checker.is_at(3, built.hash)


async def test_a_block_that_follows_nothing_is_not_checked(checked: Checked) -> None:
    first = await checked.engine.build_block(transfers(0, 1), timestamp_s=GENESIS_TIME_S + 1)
    second = await checked.engine.build_block(transfers(1, 1), timestamp_s=GENESIS_TIME_S + 2)
    assert first.number == 1
    effects = await engine_effects(checked.engine, second)
    with pytest.raises(LostTrack, match="block 2 does not follow block 0"):
        checked.checker.check(block_for(second, transfers(1, 1)), effects)


async def test_a_sample_that_lacks_what_is_read_says_so(checked: Checked) -> None:
    block = [signed(0, 0, to=STORER, value=0, calldata=words(2, 2))]
    built, _ = await checked.build(block, timestamp_s=GENESIS_TIME_S + 1)
    effects = (await engine_effects(checked.engine, built))[0]
    before = {ADDRESSES[0]: AccountAfter(0, 10**24, b"", {}), COINBASE: AccountAfter(0, 0, b"", {})}
    task = block_for(built, block, hashes=tuple(checked.hashes[:1]))
    with pytest.raises(UntouchedState) as raised:
        checked.sampler.check_sample(task, Sample(0, before, effects))
    assert raised.value.address == STORER
