"""Rollup nodes on real engines behind a real sequencer: execution, agreement of replicas, what users can look up."""

from pathlib import Path

import pytest

from nodes.evm.engine import TRANSACTION_BLOCKS
from nodes.model.errors import Pruned
from nodes.model.ids import hex_of
from nodes.rules.hashes import keccak256
from nodes.telemetry.events import BlockExecuted
from nodes.wire.bundles import bundle_to_bytes
from tests.support.crafting import LegPlan, plain
from tests.support.rollup_testnet import HERE, LOGS, THERE, hash_of, pair, real_testnet


async def test_replicas_agree_on_every_hash(tmp_path: Path) -> None:
    async with real_testnet(tmp_path) as testnet:
        first, second = testnet.rollup("here-1"), testnet.rollup("here-2", verify_proofs=False)
        other = testnet.rollup("there-1", chain=THERE)
        async with first.running() as node, other.running() as sibling:
            for nonce in range(12):
                await testnet.submit(*[pair(nonce, key=key) for key in range(4)])
            height = await testnet.head() + 1
            await first.height(height)
            # The second replica starts late and from nothing.
            async with second.running() as late:
                await second.height(height)
                assert first.hashes() == second.hashes()
                assert node.index.transactions == late.index.transactions == 48
            await other.height(height)
            assert sibling.index.transactions == 48
            status = await node.status()
            assert status.heads.safe == status.heads.finalized == status.heads.latest
        assert {len(event.dropped) for event in first.events(BlockExecuted)} == {0}
        roots = [[event.state_root for event in bench.events(BlockExecuted)] for bench in (first, second)]
        assert roots[0] == roots[1]


async def test_what_users_look_up(tmp_path: Path) -> None:
    async with real_testnet(tmp_path) as testnet:
        bench = testnet.rollup(history_blocks=1000)
        async with bench.running() as node:
            loud = pair(0, values=(LOGS, 1))
            await testnet.submit(loud)
            await bench.height(await testnet.head() + 1)
            tx_hash = keccak256(loud.legs[0].payload)
            fate = node.index.transaction(tx_hash)
            assert fate is not None
            assert fate.block is not None
            assert (fate.fate, fate.position, fate.block.number) == ("succeeded", 0, 1)
            assert fate.block.payload(0) == loud.legs[0].payload
            (log,) = await node.logs(fate.block)
            assert (log["transactionHash"], log["blockHash"]) == (hex_of(tx_hash), hex_of(fate.block.hash))
            receipt = await node.receipt(tx_hash)
            assert receipt is not None
            assert (receipt["status"], receipt["gasUsed"]) == ("0x1", hex(fate.block.gas_used))
            (leg,) = await node.bundle_fates(hash_of(loud))
            assert (leg.leg_index, leg.fate, leg.block_number, leg.tx_hash) == (0, "succeeded", 1, tx_hash)
            assert node.index.transaction(bytes(32)) is None
            assert await node.receipt(bytes(32)) is None
            balance = await node.request("eth_getBalance", ["0x" + "11" * 20, "0x1"])
            assert int(balance, 16) == LOGS


async def test_receipts_are_kept_for_people_and_for_own_users_and_pruned_otherwise(tmp_path: Path) -> None:
    async with real_testnet(tmp_path, block_interval_ms=10) as testnet:
        bench = testnet.rollup()
        async with bench.running() as node:
            many = [plain(LegPlan(chain=HERE, key=key, nonce=nonce)) for nonce in range(3) for key in range(8)]
            own = keccak256(many[5].legs[0].payload)
            node.pending.add(b"\x01" * 20, 0, own)
            await testnet.submit(*many)
            for nonce in range(3, TRANSACTION_BLOCKS + 6):  # past the blocks that the engine remembers
                await bench.height(await testnet.head() + 1)
                await testnet.submit(plain(LegPlan(chain=HERE, nonce=nonce)))
            await bench.height(await testnet.head() + 1)
            first = node.index.block_by_number(1)
            assert first is not None
            assert len(first) == 24
            assert node.index.head.number > TRANSACTION_BLOCKS + 1
            receipt = await node.receipt(own)
            assert receipt is not None
            assert receipt["transactionIndex"] == "0x5"
            with pytest.raises(Pruned, match="succeeded at position 6 of block 1"):
                await node.receipt(keccak256(many[6].legs[0].payload))
            small = node.index.block_by_number(2)
            assert small is not None
            assert await node.receipt(small.tx_hash(0)) is not None
            assert len(node.pending) == 0


async def test_equal_payloads_twice_execute_once(tmp_path: Path) -> None:
    async with real_testnet(tmp_path) as testnet:
        bench = testnet.rollup()
        async with bench.running() as node:
            same = plain(LegPlan(chain=HERE))
            await testnet.submit(same, plain(LegPlan(chain=HERE, key=1)))
            await bench.height(await testnet.head() + 1)
            other = plain(LegPlan(chain=HERE, nonce=1))
            copy = bundle_to_bytes(same) + b"\x78\x01"  # an unknown field: other bytes, the same transaction
            await testnet.client.submit([copy, bundle_to_bytes(other)])
            await bench.height(await testnet.head() + 1)
            fates = [(fate.fate, fate.reason) for fate in node.index.fates(keccak256(same.legs[0].payload))]
            assert fates == [("skipped", "nonce_too_low"), ("succeeded", "")]
            assert node.index.transactions == 3
