"""Certificates of a rollup's safe heights: what goes into them, and what happens across refusals and restarts."""

import asyncio
from pathlib import Path

import pytest

from nodes.model.agglayer import (
    MAINNET,
    CertificateHeight,
    CertificateId,
    CertificateStatus,
    Multisig,
    global_index_of,
)
from nodes.model.ids import Height
from nodes.rollup.certifier_store import CertificateRow, CertifierStore
from nodes.rules.certificate import (
    certificate_commitment,
    certificate_id,
    check_multisig,
    range_digest,
    unpack_chain_data,
)
from nodes.rules.exit_tree import ExitFrontier
from nodes.rules.outcomes import outcome_root
from nodes.rules.signing import address_of_key, recover_digest
from nodes.telemetry.clock import SystemClock
from nodes.telemetry.events import CertificateBuilt
from nodes.telemetry.tracer import MemoryTracer
from tests.support.certifier import (
    KEY,
    OTHER,
    FakeService,
    Running,
    certifier,
    exit_to,
    frontier_root,
    safe,
)
from tests.support.patience import PATIENCE_S


@pytest.fixture
def service() -> FakeService:
    return FakeService()


async def test_a_certificate_is_signed_and_states_its_range(service: FakeService, tmp_path: Path) -> None:
    service.prove(MAINNET, 0, 100)
    tracer = MemoryTracer(SystemClock())
    async with Running(certifier(service, tmp_path, tracer)) as made:
        made.safe(safe(3, claims=[(MAINNET, 0, 100, True)]))
        made.safe(safe(5, exits=[(0, exit_to(40))]))
        sent = await service.wait_for(1)
    assert (sent.height, sent.prev_local_exit_root) == (0, frontier_root())
    assert sent.new_local_exit_root == frontier_root(exit_to(40))
    assert [entry.global_index for entry in sent.imported_bridge_exits] == [global_index_of(MAINNET, 0)]
    signer = address_of_key(KEY)
    assert isinstance(sent.aggchain_data, Multisig)
    check_multisig(
        signatures=sent.aggchain_data.signatures,
        signers=[signer],
        threshold=1,
        commitment=certificate_commitment(sent),
    )
    data = unpack_chain_data(sent.custom_chain_data)
    assert data is not None
    assert (data.settled.first_height, data.settled.last_height, data.verdict) == (1, 5, None)
    assert data.settled.last_block_hash == b"\x05" * 32
    legs = [safe(3).outcomes[0], safe(5).outcomes[0]]
    assert data.settled.outcome_root == outcome_root(legs)
    (range_signature,) = data.range_signatures
    assert range_signature is not None
    assert recover_digest(range_digest(certificate_id(sent), data.settled), range_signature) == signer
    built = [entry.event for entry in tracer.stamped if isinstance(entry.event, CertificateBuilt)]
    assert [(event.exits, event.imports, event.last_height) for event in built] == [(1, 1, 5)]


async def test_imports_lag_and_exits_wait_for_balance_only(service: FakeService, tmp_path: Path) -> None:
    service.prove(MAINNET, 0, 100)
    async with Running(certifier(service, tmp_path)) as made:
        made.safe(safe(1, claims=[(MAINNET, 0, 100, True)]))
        # 60 leave at once; 70 more once the mint of another rollup's exit can be proven. The cut is inside height 3.
        made.safe(safe(2, mints=[(OTHER, 7, 50)]))
        made.safe(safe(3, exits=[(0, exit_to(60)), (1, exit_to(70)), (2, exit_to(10))]))
        first = await service.wait_for(1)
        data = unpack_chain_data(first.custom_chain_data)
        assert [made.amount for made in first.bridge_exits] == [60]
        assert data is not None
        assert data.settled.last_height == 1  # that mint may still be voided, so no range reaches height 2
        service.prove(OTHER, 7, 50)
        service.changed.set()
        second = await service.wait_for(2)
    assert [made.amount for made in second.bridge_exits] == [70, 10]
    assert [entry.global_index for entry in second.imported_bridge_exits] == [global_index_of(OTHER, 7)]
    assert second.prev_local_exit_root == first.new_local_exit_root
    data = unpack_chain_data(second.custom_chain_data)
    assert data is not None
    assert (data.settled.first_height, data.settled.last_height) == (2, 3)


async def test_a_certificate_in_error_is_built_anew(
    service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodes.rollup.certifier.REFUSED_PAUSE_S", 0.001)
    service.verdict = CertificateStatus.IN_ERROR
    async with Running(certifier(service, tmp_path)) as made:
        made.safe(safe(1))
        await service.wait_for(1)
        service.verdict = CertificateStatus.SETTLED
        service.changed.set()
        again = await service.wait_for(2)
    assert again.height == 0


async def test_a_certificate_that_never_arrived_is_sent_again_after_a_restart(
    service: FakeService, tmp_path: Path
) -> None:
    service.is_lost = True
    async with Running(certifier(service, tmp_path)) as made:
        made.safe(safe(1))
        await service.arrived.wait()
    service.is_lost = False
    async with Running(certifier(service, tmp_path)) as made:
        assert made.have_height == 1
        service.changed.set()
        sent = await service.wait_for(1)
    assert (sent.height, len(service.certificates)) == (0, 1)


async def test_a_certificate_that_never_arrived_is_sent_again_as_it_was(
    service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodes.rollup.certifier.RECONNECT_S", 0.001)
    service.is_lost = True
    async with Running(certifier(service, tmp_path)) as made:
        made.safe(safe(1))
        await service.arrived.wait()
        service.arrived.clear()
        made.safe(safe(2))  # it would be in a certificate that was built anew
        await service.arrived.wait()
    async with Running(certifier(service, tmp_path)):
        service.is_lost = False
        service.changed.set()
        sent = await service.wait_for(1)
    assert len(service.lost) >= 2
    assert all(lost == sent for lost in service.lost)


async def test_a_certificate_that_arrived_late_after_all_is_not_given_up(service: FakeService, tmp_path: Path) -> None:
    service.is_lost = True
    async with Running(certifier(service, tmp_path)) as made:
        made.safe(safe(1))
        await service.arrived.wait()
    service.is_lost = False
    service.standing[CertificateHeight(0)] = service.lost[0]  # refused with its own id: it stands there
    async with Running(certifier(service, tmp_path)) as made:
        service.changed.set()
        async with asyncio.timeout(PATIENCE_S):
            await service.refused.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        assert made.stalled == ""
        made.safe(safe(2))
        following = await service.wait_for(1)
    assert following.height == 1


async def test_a_certificate_below_the_newest_that_fell_into_error_is_built_anew(
    service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L1 reorganizes after certificates 0 and 1 were settled and 2 was sent; 1 cannot be settled again."""
    monkeypatch.setattr("nodes.rollup.certifier.REFUSED_PAUSE_S", 0.001)
    async with Running(certifier(service, tmp_path)) as made:
        for height in (1, 2):
            made.safe(safe(height))
            await service.wait_for(height)
        service.verdict = CertificateStatus.PENDING
        made.safe(safe(3))
        await service.wait_for(3)
        service.verdict = CertificateStatus.SETTLED
        service.become(CertificateStatus.IN_ERROR, 1)
        again = await service.wait_for(4)
    data = unpack_chain_data(again.custom_chain_data)
    assert data is not None
    assert again.height == 1
    assert (data.settled.first_height, data.settled.last_height) == (2, 3)


async def test_an_own_certificate_that_stands_after_all_is_taken_back(
    service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Certificate 1 was given up with the one below it, which came to stand as it was: 1 is settled all the same."""
    monkeypatch.setattr("nodes.rollup.certifier.REFUSED_PAUSE_S", 0.001)
    service.prove(MAINNET, 0, 100)
    heights = [
        safe(1, claims=[(MAINNET, 0, 100, True)], exits=[(0, exit_to(10))]),
        safe(2, exits=[(1, exit_to(20))]),
        safe(3),
    ]
    first_directory, second_directory = tmp_path / "first", tmp_path / "second"
    first_directory.mkdir()
    second_directory.mkdir()
    async with Running(certifier(service, first_directory)) as made:
        for number, height in enumerate(heights[:2], 1):
            made.safe(height)
            await service.wait_for(number)
    service.standing = {sent.height: sent for sent in service.certificates}
    # One that lost its records builds its first certificate of everything, and finds that two stand already.
    async with Running(certifier(service, second_directory)) as made:
        for height in heights:
            made.safe(height)
        third = await service.wait_for(3)
    data = unpack_chain_data(third.custom_chain_data)
    assert data is not None
    assert (third.height, data.settled.first_height, data.settled.last_height) == (2, 3, 3)
    assert third.prev_local_exit_root == frontier_root(exit_to(10), exit_to(20))


async def test_a_strangers_certificate_in_the_way_is_said(service: FakeService, tmp_path: Path) -> None:
    async with Running(certifier(service, tmp_path)) as made:
        made.safe(safe(2, exits=[(0, exit_to(0))]))
        other = await service.wait_for(1)
    service.standing[CertificateHeight(0)] = other
    service.headers, service.latest = {}, None
    directory = tmp_path / "other"
    directory.mkdir()
    async with Running(certifier(service, directory)) as made:
        made.safe(safe(2, block=9))
        await service.refused.wait()
        async with asyncio.timeout(PATIENCE_S):
            while not made.stalled:  # noqa: ASYNC110 - it tells the node's status only
                await asyncio.sleep(0)
        assert "another one stands there" in made.stalled


async def test_equal_leaves_are_interchangeable(service: FakeService, tmp_path: Path) -> None:
    for index in range(10):
        service.prove(OTHER, index, 50)
    async with Running(certifier(service, tmp_path)) as made:
        # A contingent mint was matched with leaf 7. The equal leaf 9 was claimed in its stead, so the claim of 7 pays.
        made.safe(safe(1, mints=[(OTHER, 7, 50)]))
        made.safe(safe(2, claims=[(OTHER, 9, 50, False)]))
        made.safe(safe(3, claims=[(OTHER, 7, 50, True)]))
        await service.wait_for(1)
        imported = {
            entry.global_index.leaf_index for sent in service.certificates for entry in sent.imported_bridge_exits
        }
    assert imported == {7, 9}


async def test_an_unmatched_mint_is_never_imported(service: FakeService, tmp_path: Path) -> None:
    async with Running(certifier(service, tmp_path)) as made:
        made.safe(safe(1, mints=[(OTHER, None, 50)], exits=[(0, exit_to(50))]))
        made.safe(safe(2))
        for _ in range(20):
            await asyncio.sleep(0)
    assert service.certificates == []  # nothing before height 1 is whole, and height 1 waits for balance for ever


async def test_a_certificate_of_imports_alone_states_no_range(service: FakeService, tmp_path: Path) -> None:
    async with Running(certifier(service, tmp_path)) as made:
        made.safe(safe(1, claims=[(OTHER, 7, 50, True)]))
        first = await service.wait_for(1)
        service.prove(OTHER, 7, 50)
        service.changed.set()
        second = await service.wait_for(2)
    assert (len(first.imported_bridge_exits), len(second.imported_bridge_exits)) == (0, 1)
    assert second.custom_chain_data == b""


def test_the_store_finds_the_certificate_of_a_height(tmp_path: Path) -> None:
    store = CertifierStore(tmp_path / "certifier.sqlite")
    for number, (first, last) in enumerate([(1, 3), (4, 3), (4, 9)]):
        row = CertificateRow(
            CertificateHeight(number), CertificateId(bytes([number]) * 32), Height(first), Height(last), 0
        )
        store.add_certificate(row, [], body=b"", balances={}, frontier=ExitFrontier())
    found = [store.certificate_of(Height(height)) for height in (1, 3, 4, 9, 10)]
    assert [None if row is None else row.height for row in found] == [0, 0, 2, 2, None]
    store.close()
