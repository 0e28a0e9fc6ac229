"""The rows of the table of cases that an engine decides: shared nonces, reverts, gaps. Submitted to a real sequencer,
executed on real engines, asked of both rollups' nodes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from nodes.model.bundle import Bundle
from nodes.model.ids import chain_id_of
from nodes.rules.hashes import keccak256
from nodes.telemetry.events import BlockExecuted
from tests.support.crafting import LegPlan, bundle, plain
from tests.support.rollup_testnet import HERE, REVERTS, THERE, pair, real_testnet

SUCCEEDED, REVERTED = ("succeeded", ""), ("reverted", "")
TOO_LOW, TOO_HIGH = ("skipped", "nonce_too_low"), ("skipped", "nonce_too_high")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Bundles of one block, and the (fate, reason) of each leg of each."""

    submissions: Sequence[Bundle]
    fates: Sequence[Sequence[tuple[str, str]]]


def over_cap(key: int) -> Bundle:
    """Its leg on the other rollup is dropped, and this one with it."""
    return bundle(
        [LegPlan(chain=HERE, key=key), LegPlan(chain=THERE, key=key, gas_limit=1_000_001)],
    )


CASES: Mapping[str, Case] = {
    "two bundles sharing a nonce": Case(
        # The first leg of the second has a nonce that the first bundle used; its other leg is not touched by that.
        submissions=[pair(0), pair(0, nonces=(0, 1))],
        fates=[[SUCCEEDED, SUCCEEDED], [TOO_LOW, SUCCEEDED]],
    ),
    "a leg reverts": Case(
        submissions=[pair(0, values=(1, REVERTS)), pair(1)],
        fates=[[SUCCEEDED, REVERTED], [SUCCEEDED, SUCCEEDED]],
    ),
    "every leg reverts": Case(
        submissions=[pair(0, values=(REVERTS, REVERTS))],
        fates=[[REVERTED, REVERTED]],
    ),
    "a nonce gap after a drop": Case(
        # A drop consumes no nonce: what was signed behind the dropped leg has a gap and is skipped.
        submissions=[over_cap(2), pair(1, key=2), pair(0, key=3)],
        fates=[
            [("dropped", "incomplete"), ("dropped", "over_limit")],
            [TOO_HIGH, TOO_HIGH],
            [SUCCEEDED, SUCCEEDED],
        ],
    ),
    "a leg that cannot be paid for": Case(
        submissions=[pair(0, values=(10**25, 1)), pair(1, nonces=(0, 1))],
        fates=[[("skipped", "insufficient_balance"), SUCCEEDED], [SUCCEEDED, SUCCEEDED]],
    ),
    "a leg whose gas does not cover its own bytes": Case(
        submissions=[
            bundle([LegPlan(chain=HERE, gas_limit=21_000), LegPlan(chain=THERE)]),
            pair(0, nonces=(0, 1)),
        ],
        fates=[[("skipped", "intrinsic_gas"), SUCCEEDED], [SUCCEEDED, SUCCEEDED]],
    ),
    "a bundle beside a plain transaction with its nonce": Case(
        submissions=[plain(LegPlan(chain=HERE, key=4)), pair(0, key=4)],
        fates=[[SUCCEEDED], [TOO_LOW, SUCCEEDED]],
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_row(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    async with real_testnet(tmp_path, block_interval_ms=50) as testnet:
        here, there = testnet.rollup("here-1"), testnet.rollup("there-1", chain=THERE)
        async with here.running() as node, there.running() as sibling:
            await testnet.submit(*case.submissions)
            height = await testnet.head() + 1
            await here.height(height)
            await there.height(height)
            views = {HERE: node, THERE: sibling}
            found = []
            for submitted in case.submissions:
                legs = [(leg, views[chain_id_of(leg.rollup_id)].index) for leg in submitted.legs]
                fates = [index.transaction(keccak256(leg.payload)) for leg, index in legs]
                found.append([(fate.fate, fate.reason) for fate in fates if fate is not None])
            assert found == list(map(list, case.fates))
            heights = {event.height for bench in (here, there) for event in bench.events(BlockExecuted)}
            assert len(heights) == 1, "submitted in one call, sequenced in one block"


async def test_plain_transactions_execute_in_payload_order(tmp_path: Path) -> None:
    async with real_testnet(tmp_path, block_interval_ms=50) as testnet:
        bench = testnet.rollup()
        async with bench.running() as node:
            ordered = [plain(LegPlan(chain=HERE, nonce=0)), pair(1), plain(LegPlan(chain=HERE, nonce=2)), pair(3)]
            await testnet.submit(*ordered)
            await bench.height(await testnet.head() + 1)
            block = node.index.block_by_number(1)
            assert block is not None
            assert block.payload_list() == [submitted.legs[0].payload for submitted in ordered]
