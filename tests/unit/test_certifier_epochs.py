"""A certifier when heights it has certified are void: what it forgets, what it keeps, and when it stops."""

import asyncio
from pathlib import Path

import pytest

from nodes.model.agglayer import MAINNET, CertificateStatus
from nodes.model.ids import Height
from nodes.rollup.certifier import RollupCertifier
from nodes.rules.certificate import unpack_chain_data
from nodes.telemetry.clock import SystemClock
from nodes.telemetry.events import ReaderStalled
from nodes.telemetry.tracer import MemoryTracer
from tests.support.certifier import OTHER, FakeService, Running, certifier, exit_to, safe


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodes.rollup.certifier.REFUSED_PAUSE_S", 0.001)
    monkeypatch.setattr("nodes.rollup.certifier.RECONNECT_S", 0.001)


async def turns(count: int = 50) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def certified(service: FakeService, made: RollupCertifier, *heights: int) -> None:
    """One certificate for each height, the last of them pending."""
    for height in heights:
        service.verdict = CertificateStatus.PENDING if height == heights[-1] else CertificateStatus.SETTLED
        count = len(service.certificates)
        made.safe(safe(height))
        await service.wait_for(count + 1)


async def test_what_no_certificate_covers_is_forgotten(service: FakeService, tmp_path: Path) -> None:
    async with Running(certifier(service, tmp_path)) as made:
        await certified(service, made, 1)
        made.safe(safe(4))
        made.epoch_began(1, Height(3))
        assert (made.have_height, made.stalled) == (1, "")


async def test_covered_heights_that_come_again_equal_change_nothing(service: FakeService, tmp_path: Path) -> None:
    service.prove(MAINNET, 0, 100)
    again = [
        safe(1, claims=[(MAINNET, 0, 100, True)], exits=[(0, exit_to(10))], epoch=1),
        safe(2, exits=[(1, exit_to(20))], epoch=1),
    ]
    async with Running(certifier(service, tmp_path)) as made:
        made.safe(safe(1, claims=[(MAINNET, 0, 100, True)], exits=[(0, exit_to(10))]))
        made.safe(safe(2, exits=[(1, exit_to(20))]))
        await service.wait_for(1)
        made.epoch_began(1, Height(1))
        assert made.have_height == 0
        made.safe(again[0])
    async with Running(certifier(service, tmp_path)) as made:
        assert made.have_height == 1
        made.safe(again[0])
        made.safe(again[1])
        made.safe(safe(3, exits=[(2, exit_to(30))], epoch=1))
        second = await service.wait_for(2)
        assert made.stalled == ""
    data = unpack_chain_data(second.custom_chain_data)
    assert data is not None
    assert (data.settled.first_height, data.settled.last_height) == (3, 3)
    assert ([made.amount for made in second.bridge_exits], second.imported_bridge_exits) == ([30], ())


@pytest.mark.parametrize(
    ("again", "says"),
    [
        (safe(2, epoch=1, block=99), "its block or its legs are others"),
        (safe(2, epoch=1, exits=[(0, exit_to(11))]), "exit 0 is another"),
        (safe(2, epoch=1), "exit 0 is another or is gone"),
        (safe(3, epoch=1), "nothing happened at height 2 any more"),
        (safe(1, epoch=1), "its block or its legs are others"),  # where nothing had happened
    ],
)
async def test_a_settled_height_that_comes_again_otherwise_stops_it_for_good(
    service: FakeService, tmp_path: Path, again: object, says: str
) -> None:
    service.prove(MAINNET, 0, 100)
    tracer = MemoryTracer(SystemClock())
    async with Running(certifier(service, tmp_path)) as made:
        made.safe(safe(2, exits=[(0, exit_to(10))], claims=[(MAINNET, 0, 100, True)]))
        await service.wait_for(1)
        made.epoch_began(1, Height(1))
        made.safe(again)  # type: ignore[arg-type]
        made.safe(safe(5, epoch=1, exits=[(1, exit_to(20))]))
        await turns()
        assert says in made.stalled
        assert made.have_height == 5
    async with Running(certifier(service, tmp_path, tracer)) as made:
        service.changed.set()
        await turns()
        assert says in made.stalled
        assert made.have_height == 5
    assert len(service.certificates) == 1
    stalls = [entry.event for entry in tracer.stamped if isinstance(entry.event, ReaderStalled)]
    assert [says in stall.reason for stall in stalls] == [True]


async def test_a_certificate_in_error_lets_go_of_void_heights(service: FakeService, tmp_path: Path) -> None:
    async with Running(certifier(service, tmp_path)) as made:
        await certified(service, made, 1, 2)
        made.epoch_began(1, Height(2))
        made.safe(safe(2, epoch=1, block=77))
        made.safe(safe(3, epoch=1))
        await turns()
        assert "its block or its legs are others" in made.stalled
        service.verdict = CertificateStatus.SETTLED
        service.become(CertificateStatus.IN_ERROR, 1)
        third = await service.wait_for(3)
        await turns()
        assert made.stalled == ""
    data = unpack_chain_data(third.custom_chain_data)
    assert data is not None
    assert third.height == 1
    assert (data.settled.first_height, data.settled.last_height) == (2, 3)


async def test_an_exit_certified_beyond_the_range_must_come_again(service: FakeService, tmp_path: Path) -> None:
    service.prove(MAINNET, 0, 100)
    async with Running(certifier(service, tmp_path)) as made:
        made.safe(safe(1, claims=[(MAINNET, 0, 100, True)]))
        made.safe(safe(2, mints=[(OTHER, 7, 50)], exits=[(0, exit_to(60))]))
        first = await service.wait_for(1)
        assert [made.amount for made in first.bridge_exits] == [60]
        made.epoch_began(1, Height(2))
        made.safe(safe(2, epoch=1, block=99, exits=[(0, exit_to(60))]))  # its mint is void, the exit stays
        second = await service.wait_for(2)
        assert made.stalled == ""
        made.safe(safe(3, epoch=1))
        await service.wait_for(3)
    data = unpack_chain_data(second.custom_chain_data)
    assert data is not None
    assert (data.settled.first_height, data.settled.last_height) == (2, 2)
    assert data.settled.last_block_hash == bytes([99]) * 32


async def test_an_import_that_was_certified_is_taken_up_again(service: FakeService, tmp_path: Path) -> None:
    service.prove(OTHER, 7, 50)
    async with Running(certifier(service, tmp_path)) as made:
        made.safe(safe(2, mints=[(OTHER, 7, 50)]))
        await service.wait_for(1)
        made.epoch_began(1, Height(2))
        made.safe(safe(2, mints=[(OTHER, 7, 50)], epoch=1))
        made.safe(safe(3, claims=[(OTHER, 7, 50, False)], epoch=1))
        second = await service.wait_for(2)
        assert made.stalled == ""
    assert second.imported_bridge_exits == ()
    data = unpack_chain_data(second.custom_chain_data)
    assert data is not None
    assert data.settled.last_height == 3


async def test_a_new_epoch_survives_a_restart(service: FakeService, tmp_path: Path) -> None:
    async with Running(certifier(service, tmp_path)) as made:
        await certified(service, made, 3, 4)
        made.safe(safe(5, exits=[(0, exit_to(0))]))
        await turns(20)
        made.epoch_began(1, Height(2))  # all of 3, 4 and 5 is void
        made.epoch_began(1, Height(2))
    service.verdict = CertificateStatus.SETTLED
    service.become(CertificateStatus.SETTLED, 0, 1)
    async with Running(certifier(service, tmp_path)) as made:
        assert made.have_height == 0
        made.safe(safe(5, exits=[(0, exit_to(0))]))  # a node that was killed before it began the epoch itself
        await turns(100)
        assert made.have_height == 0
    assert len(service.certificates) == 2, "an exit of a voided height was certified"


async def test_heights_below_a_new_epoch_may_come_late(service: FakeService, tmp_path: Path) -> None:
    async with Running(certifier(service, tmp_path)) as made:
        made.epoch_began(1, Height(3))
        made.safe(safe(2))
        made.safe(safe(3))
        await turns()
        assert made.have_height == 2


async def test_an_epoch_is_learnt_from_its_heights(service: FakeService, tmp_path: Path) -> None:
    async with Running(certifier(service, tmp_path)) as made:
        made.safe(safe(2, epoch=3))
        made.safe(safe(4, epoch=1))
        await turns()
        assert made.have_height == 2


async def test_what_was_put_aside_is_dropped_by_a_later_epoch(service: FakeService, tmp_path: Path) -> None:
    async with Running(certifier(service, tmp_path)) as made:
        await certified(service, made, 1)
        service.become(CertificateStatus.SETTLED, 0)
        made.epoch_began(1, Height(1))
        made.safe(safe(1, epoch=1, block=99))
        await turns()
        assert made.stalled
        made.epoch_began(2, Height(1))
        assert made.have_height == 0
        made.safe(safe(1, epoch=2))
        made.safe(safe(2, epoch=2))
        await service.wait_for(2)
        assert made.stalled == ""
