"""Imports of a certifier: other rollups' lies about leaves, exits without cover, and rings of rollups."""

import asyncio
from pathlib import Path

import pytest

from nodes.model.agglayer import (
    ETH,
    MAINNET,
    BridgeExit,
    Certificate,
    CertificateHeight,
    ImportedBridgeExit,
    LeafType,
    NetworkId,
    TokenInfo,
    global_index_of,
)
from nodes.model.bridge_activity import MadeClaim
from nodes.model.ids import Address, Height
from nodes.rollup.certifier_store import CertifierStore
from nodes.rules.certificate import unpack_chain_data
from nodes.rules.certifying import checked_imports, import_of_claim, missing_amount
from nodes.rules.pessimistic import U256_LIMIT
from nodes.telemetry.clock import SystemClock
from nodes.telemetry.events import ReaderStalled
from nodes.telemetry.tracer import MemoryTracer
from tests.support.certifier import (
    OTHER,
    OWN,
    USER,
    FakeService,
    Running,
    certifier,
    claims_of,
    exit_to,
    safe,
)

THIRD = NetworkId(3)


@pytest.fixture
def service() -> FakeService:
    return FakeService()


async def turns(count: int = 50) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def imported(sent: Certificate) -> list[tuple[int, int]]:
    return [(entry.global_index.leaf_index, entry.bridge_exit.amount) for entry in sent.imported_bridge_exits]


def last_height(sent: Certificate) -> int | None:
    data = unpack_chain_data(sent.custom_chain_data)
    return None if data is None else data.settled.last_height


async def test_a_leaf_index_reported_twice_is_imported_once(service: FakeService, tmp_path: Path) -> None:
    service.prove(OTHER, 7, 60)
    async with Running(certifier(service, tmp_path)) as made:
        made.safe(safe(1))
        made.safe(safe(2, mints=[(OTHER, 7, 50)]))
        made.safe(safe(3, mints=[(OTHER, 7, 60)]))
        first = await service.wait_for(1)
        await turns()
        assert made.have_height == 3
        assert "stands for leaf 7 of network 2, but the settled exit tree has another leaf there" in made.stalled
    assert (imported(first), last_height(first)) == ([(7, 60)], 1)


async def test_a_leaf_that_two_mints_claim_counts_once(service: FakeService, tmp_path: Path) -> None:
    service.prove(OTHER, 7, 50)
    async with Running(certifier(service, tmp_path)) as made:
        made.safe(safe(1, mints=[(OTHER, 7, 50)]))
        first = await service.wait_for(1)
        made.safe(safe(2, mints=[(OTHER, 7, 50)]))
        made.safe(safe(3))
        await turns()
        made.safe(safe(4, exits=[(0, exit_to(20))]))
        second = await service.wait_for(2)
    assert (imported(first), imported(second)) == ([(7, 50)], [])
    assert (last_height(first), last_height(second)) == (1, None)


async def test_a_false_leaf_index_gives_way_to_the_claim_of_that_leaf(service: FakeService, tmp_path: Path) -> None:
    service.prove(OTHER, 7, 999)
    async with Running(certifier(service, tmp_path)) as made:
        made.safe(safe(1, mints=[(OTHER, 7, 50)]))  # in truth another leaf
        made.safe(safe(2, claims=[(OTHER, 7, 999, True)]))  # leaf 7 as it is
        first = await service.wait_for(1)
        await turns()
        assert made.have_height == 2
        assert "the mint of bundle 0x0101" in made.stalled
    assert (imported(first), last_height(first)) == ([(7, 999)], None)


def test_a_claim_takes_its_own_leaf_unless_an_equal_one_is_spare() -> None:
    claim = MadeClaim(global_index_of(OTHER, 7), exit_to(1, network=OWN), True, 0)
    cases = {(False, None): 7, (False, 9): 7, (True, 9): 9, (True, None): 7}
    for (is_imported, spare), leaf_index in cases.items():
        found = import_of_claim(claim, is_imported=is_imported, spare=spare)
        assert found is not None
        assert found.leaf_index == leaf_index
    assert import_of_claim(claim._replace(pays=False), is_imported=False, spare=None) is None


def test_imports_are_checked_as_the_program_will() -> None:
    places = [global_index_of(OTHER, 1), global_index_of(OTHER, 2), global_index_of(MAINNET, 3)]
    claims = claims_of({index: exit_to(5, network=OWN) for index in places})
    good = [
        ImportedBridgeExit(bridge_exit=exit_to(5, network=OWN), claim=claims[index], global_index=index)
        for index in places
    ]
    own = ImportedBridgeExit(bridge_exit=good[0].bridge_exit, claim=good[0].claim, global_index=global_index_of(OWN, 1))
    wrong = ImportedBridgeExit(
        bridge_exit=exit_to(6, network=OWN), claim=good[1].claim, global_index=good[1].global_index
    )
    other_root = ImportedBridgeExit(
        bridge_exit=good[1].bridge_exit,
        claim=claims_of({places[1]: exit_to(5, network=OWN)})[places[1]],
        global_index=places[1],
    )
    checked = checked_imports([good[0], own, wrong, good[0], other_root, good[2]], {}, network_id=OWN)
    assert checked.good == (0, 5)
    assert sorted(checked.flaws) == [1, 2, 3]  # 4 is proven against another root: it is asked for again
    assert checked_imports(good[:1], {ETH: U256_LIMIT - 5}, network_id=OWN).good == ()


async def test_an_exit_without_cover_is_named(service: FakeService, tmp_path: Path) -> None:
    tracer = MemoryTracer(SystemClock())
    async with Running(certifier(service, tmp_path, tracer)) as made:
        made.safe(safe(1, mints=[(OTHER, 7, 50)]))
        made.safe(safe(2, exits=[(0, exit_to(50))]))
        await turns()
        assert made.stalled == ""  # it waits for its import only
        made.safe(safe(3, exits=[(1, exit_to(30)), (2, exit_to(0))]))
        service.prove(OTHER, 7, 50)
        await service.wait_for(1)
        await turns()
        assert "exit 1 at height 3, of 30 to network 2, lacks 30 of token 0x00" in made.stalled
        made.safe(safe(4, claims=[(MAINNET, 0, 100, True)]))  # a deposit, proven later
        await turns()
        assert made.stalled == ""
    stalls = [entry.event for entry in tracer.stamped if isinstance(entry.event, ReaderStalled)]
    assert [stall.source for stall in stalls] == ["certificates"]


def test_only_imports_of_the_same_token_can_cover_an_exit() -> None:
    other = TokenInfo(OTHER, Address(b"\x09" * 20))
    token_exit = BridgeExit(
        leaf_type=LeafType.TRANSFER, token=other, dest_network=OTHER, dest_address=USER, amount=9, metadata_hash=None
    )
    assert missing_amount(exit_to(10), {ETH: 3}, [exit_to(4), token_exit]) == 3
    assert missing_amount(exit_to(10), {ETH: 3, other: 90}, [exit_to(4), exit_to(4)]) == 0


async def test_a_source_that_settles_nothing_keeps_out_no_other(
    service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodes.rollup.certifier_build.MAX_IMPORTS", 4)
    service.prove(OTHER, 0, 1)
    async with Running(certifier(service, tmp_path)) as made:
        made.safe(safe(1, claims=[(THIRD, index, 1, True) for index in range(20)]))
        made.safe(safe(2, claims=[(OTHER, 0, 1, True)]))
        first = await service.wait_for(1)
        if not first.imported_bridge_exits:
            first = await service.wait_for(2)
    assert imported(first) == [(0, 1)]


async def test_a_ring_of_rollups_does_not_wait_for_itself(tmp_path: Path) -> None:
    """A sends 70 to B, B to C and C back to A, all in one height; only A had money before, which L1 brought."""
    services = {number: FakeService(NetworkId(number)) for number in (1, 2, 3)}
    services[1].prove(MAINNET, 0, 70)
    async with asyncio.TaskGroup() as group:
        made = {}
        for number, service in services.items():
            directory = tmp_path / str(number)
            directory.mkdir()
            made[number] = certifier(service, directory, network_id=NetworkId(number))
            group.create_task(made[number].run())
        made[1].safe(safe(1, claims=[(MAINNET, 0, 70, True)], network=NetworkId(1)))
        for number in services:
            before = NetworkId((number - 2) % 3 + 1)
            exits = [(0, exit_to(70, network=NetworkId(number % 3 + 1)))]
            made[number].safe(safe(2, mints=[(before, 0, 70)], exits=exits, network=NetworkId(number)))
        ends: list[tuple[int, list[int], int | None]] = []
        for number in (1, 2, 3):
            sent = await services[number].wait_for(1)
            ends.append((number, [entry.amount for entry in sent.bridge_exits], last_height(sent)))
            following = number % 3 + 1
            services[following].prove(NetworkId(number), 0, 70)
            services[following].changed.set()
        back = await services[1].wait_for(2)
        for each in made.values():
            each.stop()
    # A's exit goes out in a range that ends below its open mint; the others' mints come with their exits.
    assert ends == [(1, [70], 1), (2, [70], 2), (3, [70], 2)]
    assert (imported(back), last_height(back)) == ([(0, 70)], 2)


def test_no_query_reads_a_whole_table(tmp_path: Path) -> None:
    queries: list[str] = []
    store = CertifierStore(tmp_path / "certifier.sqlite")
    store._db.set_trace_callback(queries.append)
    store.add([safe(2, mints=[(OTHER, 7, 5)], claims=[(OTHER, 7, 5, False), (OTHER, 7, 5, True)])])
    store.begin_epoch(1, Height(2))
    store.put_flaws([(1, "a made up flaw")])
    wanted = store.open_imports(10)
    list(store.expected([]))
    assert (wanted, store.flaw, store.contested, store.first_open_mint([])) == ([], "", "", None)
    store.drop_certificates(CertificateHeight(0))
    assert (store.last_certificate(), store.certificate_of(Height(1))) == (None, None)
    assert store.outcomes(Height(1), Height(2)) == []
    store.last_height_below(None)
    store._db.set_trace_callback(None)
    steps = {
        str(step)
        for query in queries
        if query.startswith(("SELECT", "UPDATE", "DELETE", "INSERT", "WITH"))
        for *_, step in store._db.execute(f"EXPLAIN QUERY PLAN {query}")
    }
    grows = ("heights", "exits", "imports", "spares")
    scans = {step for step in steps if step.startswith("SCAN") and step.split()[1] in grows}
    # What is open is bounded by how far settlement lags.
    assert scans <= {f"SCAN imports USING INDEX {index}" for index in ("imports_open", "imports_flawed", "mints_open")}
    assert any(step.startswith("SEARCH imports USING INDEX imports_by_leaf") for step in steps)
    store.close()
