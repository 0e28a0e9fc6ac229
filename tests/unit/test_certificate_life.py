"""The life of certificates over an L1 in memory: in order, in batches, through reverts, reorgs and restarts."""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nodes.agglayer import proving
from nodes.agglayer.batch import L1Level
from nodes.agglayer.proving import L1_INFO_WAIT_BLOCKS
from nodes.agglayer.standing import Standing
from nodes.model.agglayer import Certificate, CertificateStatus, NetworkId
from nodes.model.errors import Unavailable
from nodes.model.ids import Height
from nodes.ports import NetworkProgress
from nodes.rules.certificate import certificate_id
from nodes.telemetry.events import CertificateMoved, EvidenceFound, ProofMade
from tests.support.agglayer_world import Network, World, transfer
from tests.support.certificates import CertificateHarness, Chain, CrashOnce, MemoryL1, heights, stating

PENDING, PROVEN, CANDIDATE, IN_ERROR, SETTLED = CertificateStatus
ETHER = 10**18


class Two:
    """Two networks that have deposits, and an L1."""

    def __init__(self) -> None:
        self.world = World(2)
        self.l1 = MemoryL1(self.world)
        self.red, self.blue = Chain(1), Chain(2)
        red, blue = self.world.deposit(1, [ETHER]), self.world.deposit(2, [ETHER])
        self.red_deposit = [self.world.claim(0, red[0].global_index.leaf_index)]
        self.blue_deposit = blue

    def first_of_red(self, amount: int = 5) -> Certificate:
        return stating(self.red.certificate([transfer(2, amount)], self.red_deposit), heights(1, 4))

    def first_of_blue(self, amount: int = 5) -> Certificate:
        return stating(self.blue.certificate([transfer(1, amount)], self.blue_deposit), heights(1, 6))


@pytest.fixture
def two() -> Two:
    return Two()


async def test_two_networks_settle_in_one_batch_and_become_final(two: Two, tmp_path: Path) -> None:
    service = CertificateHarness(tmp_path, two.l1)
    async with service.running():
        await service.orchestrator.submit(two.first_of_red())
        await service.orchestrator.submit(two.first_of_blue())
        assert service.status(1, 0) is PENDING
        service.end_epoch()
        await service.is_status(1, 0, CANDIDATE)
        assert service.prover.batches == [2]
        two.l1.mine()
        await service.is_status(2, 0, SETTLED)
        progress = service.book.progress(NetworkId(1))
        assert progress.settled is not None
        assert (progress.settled.epoch_number, progress.settled.certificate_index) == (1, 0)
        assert progress.settled.settlement_tx_hash
        assert progress.settled_leaf_count == 1
        assert progress.settled_range == heights(1, 4)
        assert progress.final_height == 0
        await service.drive(lambda: service.book.progress(NetworkId(1)).final_height == 4)
        await service.until(lambda: service.book.progress(NetworkId(2)).final_height == 6)
        info = await service.book.network_info(NetworkId(1))
        assert (info.settled_height, info.settled_leaf_count) == (0, 1)
        assert info.settled_import is not None
        assert info.settled_import.global_index == two.red_deposit[0].global_index
    moves = [stamped.event for stamped in service.tracer.stamped if isinstance(stamped.event, CertificateMoved)]
    assert [move.status for move in moves if move.network_id == 1] == [PENDING, PROVEN, CANDIDATE, SETTLED]
    (made,) = [stamped.event for stamped in service.tracer.stamped if isinstance(stamped.event, ProofMade)]
    assert (made.certificates, made.exits, made.imports) == (2, 2, 2)


async def test_the_next_certificate_is_proved_while_the_one_before_is_on_its_way(two: Two, tmp_path: Path) -> None:
    first = two.first_of_red()
    service = CertificateHarness(tmp_path, two.l1)
    async with service.running():
        await service.orchestrator.submit(first)
        two.red.advance(first, heights(1, 4))
        second = stating(two.red.certificate([transfer(2, 7)]), heights(5, 5))
        await service.orchestrator.submit(second)
        held, two.l1.waiting = two.l1.waiting, []
        service.end_epoch()
        await service.is_status(1, 0, CANDIDATE)
        assert service.status(1, 1) is PENDING
        blocked, two.l1.waiting = two.l1.waiting, held
        service.end_epoch()
        await service.is_status(1, 1, CANDIDATE)
        two.l1.waiting = blocked + two.l1.waiting
        two.l1.mine()
        await service.is_status(1, 1, SETTLED)
        assert service.book.progress(NetworkId(1)).settled_leaf_count == 2


async def test_what_the_program_refuses_is_in_error_and_the_batch_goes_on(two: Two, tmp_path: Path) -> None:
    service = CertificateHarness(tmp_path, two.l1)
    greedy = stating(two.red.certificate([transfer(2, 2 * ETHER)], two.red_deposit), heights(1, 4))
    async with service.running():
        await service.orchestrator.submit(greedy)
        await service.orchestrator.submit(two.first_of_blue())
        service.end_epoch()
        await service.is_status(1, 0, IN_ERROR)
        await service.is_status(2, 0, CANDIDATE)
        assert service.error(1, 0).startswith("BalanceUnderflow: exits of token")
        # Another one may now take its place.
        await service.orchestrator.submit(two.first_of_red())
        assert service.status(1, 0) is PENDING
        assert service.error(1, 0) == ""
        replaced = await service.book.header(certificate_id(greedy))
        assert replaced is not None
        assert replaced.status is IN_ERROR
        await service.drive(lambda: service.status(1, 0) is SETTLED)


async def test_a_forged_exit_root_and_a_double_claim_are_in_error(two: Two, tmp_path: Path) -> None:
    forged = replace(two.red.certificate([transfer(2, 5)], two.red_deposit), new_local_exit_root=b"\x0f" * 32)
    twice = two.blue.certificate([], two.blue_deposit * 2)
    service = CertificateHarness(tmp_path, two.l1)
    async with service.running():
        await service.orchestrator.submit(stating(two.red.signed(forged), heights(1, 4)))
        await service.orchestrator.submit(stating(twice, heights(1, 6)))
        service.end_epoch()
        await service.is_status(1, 0, IN_ERROR)
        await service.is_status(2, 0, IN_ERROR)
        assert service.error(1, 0).startswith("MismatchNewLocalExitRoot: ")
        assert service.error(2, 0).startswith("NullifierPathGenerationFailed: ")
        assert service.prover.batches == []


async def test_a_claim_that_was_settled_before_is_in_error(two: Two, tmp_path: Path) -> None:
    first = two.first_of_red()
    service = CertificateHarness(tmp_path, two.l1)
    async with service.running():
        await service.orchestrator.submit(first)
        await service.drive(lambda: service.status(1, 0) is SETTLED)
        two.red.advance(first, heights(1, 4))
        again = stating(replace(two.red.certificate(), imported_bridge_exits=tuple(two.red_deposit)), heights(5, 5))
        again = stating(two.red.signed(again), heights(5, 5))
        await service.orchestrator.submit(again)
        await service.drive(lambda: service.status(1, 1) is IN_ERROR)
        assert service.error(1, 1).startswith("NullifierPathGenerationFailed: leaf ")


async def test_a_refused_batch_is_tried_once_more_one_by_one(two: Two, tmp_path: Path) -> None:
    service = CertificateHarness(tmp_path, two.l1)
    async with service.running():
        await service.orchestrator.submit(two.first_of_red())
        await service.orchestrator.submit(two.first_of_blue())
        service.end_epoch()
        await service.is_status(2, 0, CANDIDATE)
        two.l1.refuses_next = "AttestationInvalid"
        two.l1.mine()
        await service.is_status(1, 0, PENDING)
        assert service.book.exit_tree(NetworkId(1)) is None
        two.l1.refuses_next = "AttestationInvalid"
        await service.drive(lambda: service.status(2, 0) is SETTLED)
        assert service.prover.batches == [2, 1, 1]
        await service.is_status(1, 0, IN_ERROR)
        assert service.error(1, 0) == "SettlementError: AttestationInvalid"


async def test_what_builds_on_a_refused_certificate_waits_and_is_not_at_fault(two: Two, tmp_path: Path) -> None:
    first = two.first_of_red()
    service = CertificateHarness(tmp_path, two.l1)
    async with service.running():
        await service.orchestrator.submit(first)
        two.red.advance(first, heights(1, 4))
        await service.orchestrator.submit(stating(two.red.certificate([transfer(2, 7)]), heights(5, 5)))
        service.end_epoch()
        await service.is_status(1, 0, CANDIDATE)
        blocked, two.l1.waiting = two.l1.waiting, []
        service.end_epoch()
        await service.is_status(1, 1, CANDIDATE)
        two.l1.waiting = blocked + two.l1.waiting
        two.l1.refuses_next = "L1InfoTreeLeafCountInvalid"
        two.l1.mine()
        await service.is_status(1, 1, PENDING)
        lane = service.book.lanes[NetworkId(1)]
        assert [entry.row.attempts for entry in lane.open] == [1, 0]
        await service.drive(lambda: service.status(1, 1) is SETTLED)


async def test_a_reorg_makes_it_a_candidate_again(two: Two, tmp_path: Path) -> None:
    two.l1.finality_blocks = 10
    service = CertificateHarness(tmp_path, two.l1)
    async with service.running():
        await service.orchestrator.submit(two.first_of_red())
        service.end_epoch()
        await service.is_status(1, 0, CANDIDATE)
        two.l1.mine()
        await service.is_status(1, 0, SETTLED)
        two.l1.reorg()
        await service.is_status(1, 0, CANDIDATE)
        header = service.book.latest_header(NetworkId(1), settled=False)
        assert header is not None
        assert (header.epoch_number, header.settlement_tx_hash) == (None, b"")
        two.l1.mine()
        await service.is_status(1, 0, SETTLED)
        assert service.prover.batches == [1]


@pytest.mark.parametrize(("level", "blocks"), [(L1Level.SAFE, 3), (L1Level.FINALIZED, 6)])
async def test_settled_may_mean_a_deeper_level(two: Two, tmp_path: Path, level: L1Level, blocks: int) -> None:
    two.l1.finality_blocks = 3
    service = CertificateHarness(tmp_path, two.l1, settled_level=level)
    async with service.running():
        await service.orchestrator.submit(two.first_of_red())
        service.end_epoch()
        await service.is_status(1, 0, CANDIDATE)
        for _ in range(blocks):
            two.l1.mine()
        await service.until(lambda: service.book.batches[1].included is not None)
        assert service.status(1, 0) is CANDIDATE
        two.l1.mine()
        await service.is_status(1, 0, SETTLED)


async def test_without_a_proof_certificates_wait_for_the_next_epoch(two: Two, tmp_path: Path) -> None:
    service = CertificateHarness(tmp_path, two.l1)
    service.prover.problem = Unavailable("1 of 3 attesters signed, 2 are needed")
    async with service.running():
        await service.orchestrator.submit(two.first_of_red())
        service.end_epoch()
        await service.until(lambda: len(service.prover.batches) == 1)
        assert service.status(1, 0) is PENDING
        service.prover.problem = None
        await service.drive(lambda: service.status(1, 0) is SETTLED)


async def test_a_proof_of_something_else_is_evidence_and_thrown_away(two: Two, tmp_path: Path) -> None:
    service = CertificateHarness(tmp_path, two.l1)
    service.prover.lies = True
    async with service.running():
        await service.orchestrator.submit(two.first_of_red())
        service.end_epoch()
        await service.until(lambda: any(isinstance(stamped.event, EvidenceFound) for stamped in service.tracer.stamped))
        assert service.status(1, 0) is PENDING
        assert not two.l1.known


async def test_large_certificates_are_proved_in_batches_of_their_own(
    two: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proving, "MAX_BATCH_BYTES", 1)
    service = CertificateHarness(tmp_path, two.l1)
    async with service.running():
        await service.orchestrator.submit(two.first_of_red())
        await service.orchestrator.submit(two.first_of_blue())
        await service.drive(lambda: service.status(1, 0) is SETTLED and service.status(2, 0) is SETTLED)
        assert service.prover.batches == [1, 1]


async def test_an_l1_info_root_that_never_comes_is_an_error(two: Two, tmp_path: Path) -> None:
    certificate = replace(two.first_of_red(), l1_info_tree_leaf_count=99)
    service = CertificateHarness(tmp_path, two.l1)
    async with service.running():
        await service.orchestrator.submit(certificate)
        await service.drive(lambda: service.status(1, 0) is IN_ERROR)
        assert two.l1.number >= L1_INFO_WAIT_BLOCKS
        assert service.error(1, 0).startswith("L1InfoRootNotFound: L1 has no L1 info root of 99 leaves")


async def test_a_new_epoch_of_verdicts_puts_certificates_over_the_old_one_in_error(two: Two, tmp_path: Path) -> None:
    service = CertificateHarness(tmp_path, two.l1)
    async with service.running():
        await service.orchestrator.submit(two.first_of_red())
        service.verdicts[4] = b"\x09" * 32
        service.end_epoch()
        await service.is_status(1, 0, IN_ERROR)
        assert service.error(1, 0).startswith("VerdictReplaced: heights that it speaks of were resolved again")


async def test_a_certificate_waits_while_its_heights_are_resolved_again(two: Two, tmp_path: Path) -> None:
    service = CertificateHarness(tmp_path, two.l1)
    async with service.running():
        service.lowest = Height(3)
        await service.orchestrator.submit(two.first_of_red())
        await service.orchestrator.submit(two.first_of_blue())
        service.lowest = Height(5)  # height 4 has the verdict that red states, height 6 has none
        service.end_epoch()
        await service.is_status(1, 0, CANDIDATE)
        assert service.status(2, 0) is PENDING
        service.lowest, service.verdicts[6] = Height(7), b"\x09" * 32
        service.end_epoch()
        await service.is_status(2, 0, IN_ERROR)


async def test_a_proof_is_thrown_away_where_heights_are_resolved_again_meanwhile(two: Two, tmp_path: Path) -> None:
    service = CertificateHarness(tmp_path, two.l1)
    async with service.running():
        await service.orchestrator.submit(two.first_of_red())
        service.prover.held.clear()
        service.end_epoch()
        await service.until(lambda: bool(service.prover.batches))
        service.lowest = Height(2)
        service.prover.held.set()
        await service.until(lambda: not service.proving.status.certificates)
        assert (service.status(1, 0), service.book.batches, two.l1.waiting) == (PENDING, {}, [])
        service.lowest = Height(5)
        service.end_epoch()
        await service.is_status(1, 0, CANDIDATE)


async def test_a_batch_that_is_given_up_for_a_new_epoch_counts_as_no_attempt(two: Two, tmp_path: Path) -> None:
    service = CertificateHarness(tmp_path, two.l1)
    async with service.running():
        await service.orchestrator.submit(two.first_of_red())
        service.end_epoch()
        await service.is_status(1, 0, CANDIDATE)
        (batch_id,) = service.book.batches
        assert service.orchestrator.standing(batch_id) is Standing.STANDS
        service.lowest = Height(2)
        assert service.orchestrator.standing(batch_id) is Standing.WAITS
        service.lowest, service.verdicts[4] = Height(5), b"\x09" * 32
        assert service.orchestrator.standing(batch_id) is Standing.REPLACED
        two.l1.refuses_next = "given up"
        two.l1.mine()
        await service.is_status(1, 0, PENDING)
        entry = service.book.lanes[NetworkId(1)].at(0)
        assert entry is not None
        assert entry.row.attempts == 0


async def test_a_client_that_hangs_up_leaves_no_certificate_that_memory_lacks(two: Two, tmp_path: Path) -> None:
    service = CertificateHarness(tmp_path, two.l1)
    writes, goes_on = asyncio.Event(), threading.Event()
    async with service.running():
        loop, put = asyncio.get_running_loop(), service.book.store.put

        def slow(*arguments: Any) -> None:
            loop.call_soon_threadsafe(writes.set)
            assert goes_on.wait(10)
            put(*arguments)

        service.book.store.put = slow  # type: ignore[method-assign, assignment]
        async with asyncio.TaskGroup() as group:
            submitting = group.create_task(service.orchestrator.submit(two.first_of_red()))
            await writes.wait()
            submitting.cancel()
            loop.call_soon(goes_on.set)
        assert submitting.cancelled()
        assert service.status(1, 0) is PENDING
        await service.drive(lambda: service.status(1, 0) is SETTLED)


async def _until_latest(follower: AsyncGenerator[NetworkProgress, None]) -> AsyncIterator[NetworkProgress]:
    async with aclosing(follower):
        async for progress in follower:
            yield progress
            if progress.latest is not None:
                return


async def test_followers_see_every_change_once_and_only_of_their_network(two: Two, tmp_path: Path) -> None:
    service = CertificateHarness(tmp_path, two.l1)
    async with service.running():
        follower = service.book.follow(NetworkId(1))
        assert (await anext(follower)).latest is None
        await service.orchestrator.submit(two.first_of_blue())
        await service.orchestrator.submit(two.first_of_red())
        seen = [progress async for progress in _until_latest(follower)]
        # L1's first head may have come between.
        assert len(seen) <= 2
        latest = seen[-1].latest
        assert latest is not None
        assert latest.network_id == 1


async def test_trees_over_another_hash_move_with_the_canonical_ones(two: Two, tmp_path: Path) -> None:
    service = CertificateHarness(tmp_path, two.l1)
    async with service.running():
        empty = service.book.hashed_trees(NetworkId(1))["sha256"].balances.root
        await service.orchestrator.submit(two.first_of_red())
        await service.drive(lambda: service.book.progress(NetworkId(1)).final_height == 4)
        moved = service.book.hashed_trees(NetworkId(1))["sha256"]
        assert moved.balances.root != empty
    again = CertificateHarness(tmp_path, two.l1)
    async with again.running():
        kept = again.book.hashed_trees(NetworkId(1))["sha256"]
        assert (kept.balances.root, kept.nullifiers.root) == (moved.balances.root, moved.nullifiers.root)


# Crashes

PLACES = ("in_commit", "after_certificate", "before_proof", "after_proof", "after_batch", "after_submit",
          "after_candidate", "after_event")  # fmt: skip


def _is_final(service: CertificateHarness) -> bool:
    return all(service.book.progress(NetworkId(network)).final_height == last for network, last in ((1, 5), (2, 6)))


async def _run_to_the_end(two: Two, directory: Path, crash: CrashOnce) -> int:
    """Three certificates become final through any number of restarts; how many there were."""
    first, other = two.first_of_red(), two.first_of_blue()
    red = Chain(1)
    red.advance(first, heights(1, 4))
    second = stating(red.certificate([transfer(2, 7)]), heights(5, 5))
    wanted = [first, second, other]
    restarts = 0
    while True:
        service = CertificateHarness(directory, two.l1, crash=crash)
        try:
            async with service.running():
                for certificate in wanted:
                    if service.status(certificate.network_id, certificate.height) is None:
                        await service.orchestrator.submit(certificate)
                await service.drive(partial(_is_final, service))
                if not service.ended.is_set():
                    return restarts
        except BaseException as error:
            if type(error).__name__ != "Killed":
                raise
        restarts += 1
        assert restarts < 3


@pytest.mark.parametrize("place", PLACES)
async def test_a_service_killed_anywhere_settles_everything_once(place: str, tmp_path: Path) -> None:
    watch = CrashOnce()
    await _run_to_the_end(Two(), tmp_path / "watched", watch)
    visits = watch.visited[f"agglayer.{place}"]
    assert visits
    killed = 0
    for count in range(1, visits + 1):
        two = Two()
        restarts = await _run_to_the_end(two, tmp_path / str(count), CrashOnce(f"agglayer.{place}", count))
        # The last visit may come when everything is through.
        killed += restarts
        assert restarts <= 1
        settled = [item.certificate_id for batch in two.l1.executed for item in two.l1.known[batch].items]
        assert len(settled) == len(set(settled)) == 3
        assert not two.l1.reverted
        assert two.l1.settled_roots[NetworkId(1)].last_height == 5
    assert killed


async def test_a_certificate_of_another_network_type_without_a_range_is_taken(two: Two, tmp_path: Path) -> None:
    service = CertificateHarness(tmp_path, two.l1)
    plain = Network(1).certificate([transfer(2, 5)], two.red_deposit)
    async with service.running():
        await service.orchestrator.submit(plain)
        await service.drive(lambda: service.status(1, 0) is SETTLED)
        settled = service.book.progress(NetworkId(1)).settled_range
        assert settled is not None
        assert (settled.first_height, settled.last_height) == (1, 0)
