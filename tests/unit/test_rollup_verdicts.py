"""Rollup nodes that learn verdicts: execution ahead, going back, reports, safe heights, restarts."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from nodes.model.agglayer import BridgeExit, GlobalIndex, LeafType, NetworkId, TokenInfo
from nodes.model.bridge_activity import BridgeActivity, MadeClaim, MadeExit, MadeMint, SafeHeight
from nodes.model.errors import InvalidInput
from nodes.model.execution import AbortReason, LegOutcome, Status
from nodes.model.faults import SilenceReports
from nodes.model.ids import Address, BundleHash, Height
from nodes.model.sequenced_block import Commitment
from nodes.model.verdict import (
    NO_ABORTS,
    FailureKind,
    LegFailure,
    MailboxEvent,
    SignedReport,
    SignedVerdict,
    VerdictRef,
)
from nodes.rollup.verdict_store import pack_safe, unpack_safe
from nodes.rules.signing import sign_digest
from nodes.rules.verdict import aborts_hash, decode_report, encode_report, report_digest
from nodes.telemetry.clock import ManualClock
from nodes.telemetry.events import BlockExecuted, BlockReorged, EvidenceFound, HeightResolved
from tests.support.crafting import CHAIN_ID, LegPlan, bundle, plain
from tests.support.patience import PATIENCE_S
from tests.support.resolver_rollups import until_evicted
from tests.support.rollup_verdicts import (
    CONTENDED,
    HERE,
    REPORTER_KEYS,
    REVERTS,
    THERE,
    Killed,
    MemoryCertifier,
    VerdictWorld,
    follows_alike,
    hash_of,
    last_fates,
    pair,
    resolved,
)


async def test_heights_without_failures_become_safe(tmp_path: Path) -> None:
    world = VerdictWorld(tmp_path)
    async with world.resolving():
        here, there = world.bench(1), world.bench(2)
        async with here.running() as node, there.running():
            for nonce in range(6):
                world.sequencer.cut(pair(0, nonce))
            world.sequencer.cut()
            await resolved(here, 6)
            await resolved(there, 6)
            assert node.heads.safe.number == 6
            assert node.heads.finalized.number == 0
            node.settled_final(Height(4))
            assert node.heads.finalized.number == 4
        assert not here.events(BlockReorged)
        assert [event.rounds for event in here.events(HeightResolved)] == [1] * 6


async def test_a_failed_bundle_is_burnt_and_the_senders_later_legs_live(tmp_path: Path) -> None:
    world = VerdictWorld(tmp_path)
    async with world.resolving():
        here, there = world.bench(1), world.bench(2)
        failing = pair(0, 0, there=REVERTS)
        world.sequencer.cut(failing, pair(0, 1), pair(1, 0))
        world.sequencer.cut(pair(0, 2))
        async with here.running() as node, there.running() as sibling:
            first = await resolved(here, 1)
            await resolved(here, 2)
            await resolved(there, 2)
            assert first.aborted == ((hash_of(failing), AbortReason.REVERTED, False),)
            assert first.rounds == 2
            for bench in (here, there):
                assert last_fates(bench) == {1: ["aborted", "succeeded", "succeeded"], 2: ["succeeded"]}
                assert bench.events(BlockReorged)
            for each in (node, sibling):
                (fate,) = await each.bundle_fates(hash_of(failing))
                assert (fate.fate, fate.reason, fate.block_number) == ("aborted", "reverted", 0)
                block = each.index.block_by_number(1)
                assert block is not None
                assert block.payload(0)[0] == 0x7E
                assert len(block) == 3
            await follows_alike(world, here, 1, 2)


async def test_what_was_skipped_is_removed_and_moves_no_nonce(tmp_path: Path) -> None:
    world = VerdictWorld(tmp_path)
    async with world.resolving():
        here, there = world.bench(1), world.bench(2)
        world.sequencer.cut(pair(0, 0), pair(1, 0, there_nonce=7))
        async with here.running() as node, there.running() as sibling:
            await resolved(here, 1)
            await resolved(there, 1)
            assert last_fates(here) == {1: ["succeeded", "aborted"]}
            assert (len(node.index.head), len(sibling.index.head)) == (2, 1)


async def test_a_burn_in_the_wrong_place_is_removed(tmp_path: Path) -> None:
    """Bundle 2 ran on the nonce that bundle 1 left; without bundle 1's burn that nonce is another one."""
    world = VerdictWorld(tmp_path)
    async with world.resolving():
        here, there = world.bench(1), world.bench(2)
        # Both of key 0: the first is removed by a skip over there, so the second's nonce here has a gap.
        world.sequencer.cut(pair(0, 0, there_nonce=5), pair(0, 1, there_nonce=0))
        async with here.running(), there.running():
            event = await resolved(here, 1)
            await resolved(there, 1)
            assert {reason for _, reason, _ in event.aborted} == {AbortReason.SKIPPED}
            await follows_alike(world, here, 1, 1)


async def test_rivals_are_struck_in_serial_order(tmp_path: Path) -> None:
    """The first of three rivals fails elsewhere, so the second of them lives."""
    world = VerdictWorld(tmp_path)
    async with world.resolving():
        here, there = world.bench(1), world.bench(2)
        rivals = [pair(key, here=CONTENDED, there=REVERTS if key == 0 else 1) for key in range(3)]
        world.sequencer.cut(*rivals)
        async with here.running(), there.running():
            event = await resolved(here, 1)
            assert [struck[0] for struck in event.aborted] == [hash_of(rivals[0]), hash_of(rivals[2])]
            assert event.rounds == 3


async def test_only_rollups_that_are_struck_execute_again(tmp_path: Path) -> None:
    world = VerdictWorld(tmp_path)
    async with world.resolving():
        here, there = world.bench(1), world.bench(2)
        own = bundle([LegPlan(chain=HERE, value=REVERTS), LegPlan(chain=HERE, nonce=1)])
        world.sequencer.cut(own, plain(LegPlan(chain=THERE, key=3)))
        async with here.running(), there.running():
            await resolved(here, 1)
            await resolved(there, 1)
        assert (len(here.events(BlockExecuted)), len(there.events(BlockExecuted))) == (2, 1)
        assert not there.events(BlockReorged)


class SlanderingMailbox:
    """On its way to the resolver a rollup's first report of each height blames a bundle, under the rollup's own key."""

    def __init__(self, world: VerdictWorld, bundle_hash: BundleHash) -> None:
        self._world = world
        self._blamed = LegFailure(0, bundle_hash, 0, FailureKind.REVERTED)

    async def submit_reports(self, reports: Sequence[SignedReport]) -> None:
        """Blame, sign, hand on."""
        await self._world.resolver.submit_reports([self._changed(signed) for signed in reports])

    def follow(self, after: VerdictRef) -> AsyncGenerator[MailboxEvent, None]:
        """The resolver's own."""
        return self._world.resolver.follow(after)

    def _changed(self, signed: SignedReport) -> SignedReport:
        report = decode_report(signed.report)
        if report.aborts_hash != aborts_hash(NO_ABORTS):
            return signed
        encoded = encode_report(replace(report, failures=(*report.failures, self._blamed)))
        key = REPORTER_KEYS[report.network_id - 1]
        return SignedReport(encoded, sign_digest(report_digest(encoded, chain_id=CHAIN_ID), key))


async def test_a_reporter_without_a_leg_that_has_a_bundle_aborted_is_published(tmp_path: Path) -> None:
    world = VerdictWorld(tmp_path)
    async with world.resolving():
        own = bundle([LegPlan(chain=HERE), LegPlan(chain=HERE, nonce=1)])
        here, there = world.bench(1), world.bench(2, mailbox=SlanderingMailbox(world, hash_of(own)))
        world.sequencer.cut(own, plain(LegPlan(chain=THERE, key=3)))
        world.sequencer.cut(pair(1))
        async with here.running() as node, there.running():
            event = await resolved(here, 1)
            await resolved(here, 2)
            # The verdict follows from its reports, so it holds, and what comes after it too.
            assert [struck for struck, _, _ in event.aborted] == [hash_of(own)]
            (found,) = here.events(EvidenceFound)
            assert found.accused == f"the reporter of {world.params.networks[1].name} (network 2)"
            assert f"bundle {hash_of(own).hex()}, in which it has no leg" in found.detail
            assert (await node.status()).stalled == ""
        assert not there.events(EvidenceFound), "who has no leg in a bundle does not know of it"


async def test_execution_runs_ahead_and_no_further(tmp_path: Path) -> None:
    world = VerdictWorld(tmp_path)
    async with world.resolving():
        here, there = world.bench(1), world.bench(2)
        for nonce in range(10):
            world.sequencer.cut(pair(0, nonce))
        async with here.running() as node:
            await here.height(4)
            for _ in range(50):
                await asyncio.sleep(0)
            assert node.heads.height == 4
            assert node.heads.safe.number == 0
            async with there.running():
                await resolved(here, 10)


async def test_a_silent_rollup_is_evicted_and_comes_back(tmp_path: Path) -> None:
    clock = ManualClock()
    world = VerdictWorld(tmp_path, report_timeout_ms=150, clock=clock)
    async with world.resolving() as resolver:
        here, there = world.bench(1), world.bench(2)
        async with here.running(), there.running() as sibling:
            world.sequencer.cut(pair(0, 0))
            await resolved(here, 1)
            await sibling.inject(SilenceReports(on=True))
            world.sequencer.cut(pair(0, 1), plain(LegPlan(chain=HERE, key=5)), plain(LegPlan(chain=THERE, key=5)))
            await until_evicted(resolver, clock, 2, report_timeout_ms=150)
            event = await resolved(here, 2)
            assert [reason for _, reason, _ in event.aborted] == [AbortReason.EVICTED]
            await resolved(there, 2)
            assert last_fates(there)[2] == ["aborted", "succeeded"]
            await sibling.inject(SilenceReports(on=False))
            nonce = 1
            async with asyncio.timeout(PATIENCE_S):
                while resolver.state.evicted:
                    world.sequencer.cut(*[plain(LegPlan(chain=chain, key=5, nonce=nonce)) for chain in (HERE, THERE)])
                    nonce += 1
                    await asyncio.sleep(0.02)
            height = world.sequencer.cut(pair(0, 1))
            assert (await resolved(there, height)).aborted == ()
            await resolved(here, height)
            await follows_alike(world, there, 2, height)
        assert not here.events(EvidenceFound)
        assert not there.events(EvidenceFound)


async def test_safe_heights_are_told_in_order_and_again_after_a_restart(tmp_path: Path) -> None:
    world = VerdictWorld(tmp_path)
    async with world.resolving():
        there = world.bench(2)
        async with there.running():
            first = MemoryCertifier()
            here = world.bench(1, certifier=first)
            async with here.running():
                world.sequencer.cut(pair(0, 0, there=REVERTS))
                world.sequencer.cut()
                world.sequencer.cut(pair(0, 1))
                await resolved(here, 3)
            assert [told.height for told in first.told] == [1, 3]
            assert [entry.status for told in first.told for entry in told.outcomes] == [
                Status.ABORTED,
                Status.SUCCEEDED,
            ]
            assert first.told[1].verdict is not None
            second = MemoryCertifier(have_height=1)
            again = world.bench(1, certifier=second)
            async with again.running():
                world.sequencer.cut(pair(0, 2))
                await resolved(again, 4)
            assert [told.height for told in second.told] == [3, 4]
            assert second.told[0] == first.told[1]


@pytest.mark.parametrize(
    "step", ["rollup.after_build", "rollup.after_journal", "rollup.before_report", "rollup.after_verdict"]
)
@pytest.mark.parametrize("count", [1, 3, 6])
async def test_a_node_killed_at_any_step_ends_like_the_others(tmp_path: Path, step: str, count: int) -> None:
    world = VerdictWorld(tmp_path)
    passed = 0

    def crash(name: str) -> None:
        nonlocal passed
        passed += name == step
        if passed == count and name == step:
            raise Killed

    async with world.resolving():
        there = world.bench(2)
        for nonce in range(8):
            world.sequencer.cut(pair(0, nonce, there=REVERTS if nonce % 3 == 1 else 1), pair(1, nonce))
        async with there.running():
            here = world.bench(1, crash=crash, checkpoint_interval_heights=2)
            with pytest.raises(Killed):
                await here.node.run()
            certifier = MemoryCertifier()
            again = world.bench(1, checkpoint_interval_heights=2, certifier=certifier)
            async with again.running():
                await resolved(again, 8)
                await resolved(there, 8)
                assert [told.height for told in certifier.told][-1] == 8
                await follows_alike(world, again, 1, 8)


async def test_what_the_sequencer_takes_back_is_forgotten(tmp_path: Path) -> None:
    world = VerdictWorld(tmp_path)
    async with world.resolving():
        here, there = world.bench(1), world.bench(2)
        async with here.running(), there.running():
            world.sequencer.cut(pair(0, 0))
            await resolved(here, 1)
            world.sequencer.commitment = Commitment.SOFT
            world.sequencer.cut(pair(0, 1))
            world.sequencer.cut(pair(0, 2))
            await here.height(3)
            world.sequencer.fork(1)
            for nonce in (1, 2):
                world.sequencer.cut(pair(0, nonce, here=5))
            world.sequencer.raise_commitment(3, Commitment.FIRM)
            await resolved(here, 3)
            await resolved(there, 3)
            await follows_alike(world, here, 1, 3)


async def test_without_verdicts_heights_are_safe_once_they_are_firm(tmp_path: Path) -> None:
    world = VerdictWorld(tmp_path, has_verdicts=False)
    world.sequencer.commitment = Commitment.SOFT
    certifier = MemoryCertifier()
    here = world.bench(1, certifier=certifier)
    async with here.running() as node:
        for nonce in range(3):
            world.sequencer.cut(pair(0, nonce, here=REVERTS if nonce == 1 else 1))
        world.sequencer.cut()
        await here.height(4)
        assert certifier.told == []
        world.sequencer.raise_commitment(2, Commitment.FIRM)
        while len(certifier.told) < 2:
            await certifier.wait_told()
        with pytest.raises(InvalidInput):
            await node.inject(SilenceReports(on=True))
    assert [(told.height, told.outcomes[0].status) for told in certifier.told] == [
        (1, Status.SUCCEEDED),
        (2, Status.REVERTED),
    ]
    again = MemoryCertifier(have_height=1)
    async with world.bench(1, certifier=again).running():
        world.sequencer.raise_commitment(4, Commitment.FIRM)
        while len(again.told) < 2:
            await again.wait_told()
    assert [told.height for told in again.told] == [2, 3]
    assert again.told[0] == certifier.told[1]


def test_safe_heights_survive_storage() -> None:
    made = BridgeExit(
        leaf_type=LeafType.MESSAGE,
        token=TokenInfo(NetworkId(3), Address(b"\x05" * 20)),
        dest_network=NetworkId(2),
        dest_address=Address(b"\x06" * 20),
        amount=2**255 + 1,
        metadata_hash=None,
    )
    safe = SafeHeight(
        epoch=2,
        height=Height(9),
        block_hash=b"\x01" * 32,
        activity=BridgeActivity(
            exits=(MadeExit(4, made, 0),),
            mints=(MadeMint(BundleHash(b"\x02" * 32), 1, NetworkId(3), made, 1),),
            claims=(MadeClaim(GlobalIndex(False, 2, 7), made, False, 2),),
        ),
        mint_leaves=(None,),
        outcomes=(LegOutcome(BundleHash(b"\x02" * 32), 1, Height(9), Status.ABORTED),),
        verdict=SignedVerdict(b"verdict", bytes(65)),
    )
    assert unpack_safe(pack_safe(safe)) == safe


async def test_a_mailbox_that_goes_away_stops_nothing_for_good(tmp_path: Path) -> None:
    world = VerdictWorld(tmp_path)
    async with world.resolving():
        here, there = world.bench(1), world.bench(2)
        async with here.running(), there.running():
            world.sequencer.cut(pair(0, 0))
            await resolved(here, 1)
    async with world.resolving():
        here, there = world.bench(1), world.bench(2)
        async with here.running(), there.running():
            world.sequencer.cut(pair(0, 1))
            await resolved(here, 2)
