"""Following a bundle to L1: a void that comes after `atomic_safe` is told, and nothing after it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from coordinator.bundle import Bundle, Client, RollupAccess
from coordinator.bundle.legs import LegSpec
from nodes.model.agglayer import SettledRange
from nodes.model.errors import Unavailable
from nodes.model.ids import Address, Height, TxHash
from nodes.model.status import BlockHead, Heads, LegFate
from nodes.ports import NetworkProgress
from tests.support.patience import PATIENCE_S

NAMES = ("rollup-1", "rollup-2")
HEIGHT = Height(5)


@dataclass
class Rollup:
    """Has one leg of every bundle, executed and safe at `HEIGHT`."""

    leg_index: int
    is_voided: bool = False

    async def follow_heads(self) -> AsyncIterator[Heads]:
        head = BlockHead(number=3, hash=bytes(32))
        yield Heads(height=HEIGHT, latest=head, safe=head, finalized=head)

    async def bundle_fates(self, bundle_hash: bytes) -> list[LegFate]:
        fate = LegFate(
            leg_index=self.leg_index,
            height=HEIGHT,
            tx_hash=TxHash(bytes(32)),
            fate="succeeded",
            reason="",
            block_number=3,
        )
        return [replace(fate, fate="aborted", reason="voided", block_number=0) if self.is_voided else fate]


@dataclass
class Layer:
    """Settles `HEIGHT` when asked first, and has it final when asked again; voids at the moment that a test names."""

    rollup: Rollup
    voids_before: str = ""
    withholds: bool = False
    asked: int = 0

    async def follow_network(self, network_id: int) -> AsyncIterator[NetworkProgress]:
        stage = "settled" if self.asked < len(NAMES) else "final"
        self.asked += 1
        self.rollup.is_voided |= stage == self.voids_before
        if self.withholds:
            await asyncio.Event().wait()
        yield NetworkProgress(
            latest=None,
            settled=None,
            settled_leaf_count=0,
            settled_range=SettledRange(
                first_height=Height(1),
                last_height=HEIGHT,
                last_block_hash=bytes(32),
                outcome_root=bytes(32),
                verdict_root=bytes(32),
            ),
            final_height=HEIGHT if stage == "final" else 0,
            l1_info_tree_leaf_count=0,
        )


def follower(**layer: Any) -> tuple[Client, Bundle]:
    """A client of a testnet with verdicts, and a bundle with a leg on either rollup."""
    client = Client(
        sequencer="127.0.0.1:1",
        rollups=[
            RollupAccess(name=name, chain_id=7001 + index, rpc_url="", grpc_address="127.0.0.1:1")
            for index, name in enumerate(NAMES)
        ],
        has_verdicts=True,
    )
    rollups = [Rollup(index) for index in range(len(NAMES))]
    client._grpc = dict(zip(NAMES, rollups, strict=True))  # type: ignore[arg-type]  # answers the same calls
    client._agglayer = Layer(rollups[-1], **layer)  # type: ignore[assignment]  # as above
    sender = Address(b"\1" * 20)
    legs = [LegSpec(rollup=7001 + index, sender=sender, to=sender, nonce=0, gas=21_000) for index in range(len(NAMES))]
    return client, Bundle.build(legs, expiry=100)


async def stages(client: Client, bundle: Bundle, *, timeout_s: float = PATIENCE_S) -> list[str]:
    events = client.follow(bundle, until_settled=True, timeout_s=timeout_s)
    return [event.stage async for event in events if event.stage != "leg"]


async def test_a_bundle_that_stands_is_followed_until_it_is_final() -> None:
    told = await stages(*follower())
    assert told == ["sequenced", "executed", "firm", "atomic_safe", "settled", "final"]


@pytest.mark.parametrize(("moment", "before"), [("settled", []), ("final", ["settled"])])
async def test_a_later_void_ends_it(moment: str, before: list[str]) -> None:
    client, bundle = follower(voids_before=moment)
    events = [event async for event in client.follow(bundle, until_settled=True) if event.stage != "leg"]
    assert [event.stage for event in events][3:] == ["atomic_safe", *before, "aborted"]
    assert (events[-1].reason, events[-1].rollup, events[-1].height) == ("voided", NAMES[-1], HEIGHT)


async def test_a_void_is_told_where_nothing_settles() -> None:
    """The usual case: a rollup withholds its certificates."""
    told = await stages(*follower(withholds=True, voids_before="settled"), timeout_s=0.3)
    assert told[-2:] == ["atomic_safe", "aborted"]


async def test_what_stands_and_does_not_settle_in_time_is_an_error() -> None:
    with pytest.raises(Unavailable, match="was not settled on L1"):
        await stages(*follower(withholds=True), timeout_s=0.3)
