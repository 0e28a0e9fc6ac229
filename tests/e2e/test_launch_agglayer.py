"""A testnet with an aggregation layer: bundles become safe and final, it goes on after a stop, and its faults heal."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from coordinator.faults import FaultRecord, Injector, PlannedFault, plan_faults
from coordinator.launch import LAUNCHERS, RunningTestnet, load_endpoints
from coordinator.spec import ResolvedTestnet, load_testnet, parse_scenario, resolve
from coordinator.spec.scenario import FaultTable
from coordinator.stages import live
from coordinator.stages.live import LiveView
from nodes.ethereum.client import L1Client
from nodes.model.errors import InvalidInput, UnknownName
from nodes.model.faults import AttestWrong, CrashAt, PauseL1
from nodes.telemetry.clock import SystemClock
from nodes.telemetry.events import EvidenceFound, NoticeLogged
from nodes.telemetry.tracer import DiscardingTracer
from nodes.wire.rollup import RollupClient
from nodes.wire.sequencer import SequencerClient
from nodes.wire.trace_records import read_records, whole_records
from tests.support.hosts import transfer_bundle, until_executed
from tests.support.patience import PATIENCE_S
from tests.support.ray_guard import one_ray_at_a_time

pytestmark = pytest.mark.e2e
LOAD_PAUSE_S = 0.2
SCENARIO = """
[scenario]
name = "layered"
[testnet]
rollups = 2
atomicity = "{atomicity}"
launcher = "{launcher}"
[backend]
block_interval_ms = {block_interval_ms}
[agglayer]
settle = true
report_timeout_ms = {report_timeout_ms}
certificate_interval_s = 0.2
[l1]
slot_time_ms = 200
[workload]
lanes = 4
"""


def layered_testnet(launcher: str, atomicity: str = "agglayer") -> ResolvedTestnet:
    # Where nobody is silent, nobody shall be taken for it on a machine that stands still for seconds.
    interval_ms, timeout_ms = (200, 3_000) if launcher == "ray" else (50, 60_000)
    text = SCENARIO.format(
        launcher=launcher, atomicity=atomicity, block_interval_ms=interval_ms, report_timeout_ms=timeout_ms
    )
    return resolve(parse_scenario(text, source="layered.toml"))


async def send(running: RunningTestnet, *, nonce: int) -> bytes:
    submission, identity = transfer_bundle(running.testnet, nonce=nonce)
    async with SequencerClient(running.submit_address) as sequencer:
        (ticket,) = await sequencer.submit([submission])
    assert ticket.accepted
    return identity


async def until_final(running: RunningTestnet, node: str, *, blocks: int) -> None:
    """Until so many blocks and all that is executed are final: atomic-safe, settled, and final on L1."""
    async with asyncio.timeout(PATIENCE_S), RollupClient(running.endpoint(node).grpc_address) as client:
        async for heads in client.follow_heads():
            if heads.finalized == heads.latest and heads.latest.number >= blocks:
                return
    raise AssertionError("the node ended its heads")


@pytest.mark.parametrize("atomicity", ["inclusion", "bond", "agglayer"])
async def test_bundles_become_final_and_a_stopped_testnet_goes_on(
    tmp_path: Path, atomicity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "ANSWER_DEADLINE_S", PATIENCE_S)
    launcher = LAUNCHERS["inprocess"]
    async with launcher.start(layered_testnet("inprocess", atomicity), tmp_path) as running:
        assert not running.attesters_separate, "one process: a threshold means nothing, and that must be said"
        identity = await send(running, nonce=0)
        assert await until_executed(running.rollups[1].grpc_address, identity) == ["succeeded"]
        await until_final(running, "rollup-1", blocks=1)
        endpoints = load_endpoints(tmp_path)
        assert (endpoints.agglayer_address, endpoints.l1_rpc_url) == (running.agglayer_address, running.l1_rpc_url)
        assert (endpoints.submit_address == running.sequencer_address) == (atomicity != "bond")
        async with LiveView(endpoints) as view:
            states = {row.name: row.state for row in await view.rows()}
        assert states == dict.fromkeys(running.node_names, "ok")
        async with L1Client(running.l1_rpc_url) as l1:
            head = await l1.head()
    async with launcher.start(load_testnet(tmp_path), tmp_path) as running:
        assert load_endpoints(tmp_path).l1_rpc_url == endpoints.l1_rpc_url
        identity = await send(running, nonce=1)
        assert await until_executed(running.rollups[1].grpc_address, identity) == ["succeeded"]
        await until_final(running, "rollup-2", blocks=2)
        async with L1Client(running.l1_rpc_url) as l1:
            assert (await l1.head()).number >= head.number


async def test_faults_by_name_and_what_one_process_cannot_have(tmp_path: Path) -> None:
    async with LAUNCHERS["inprocess"].start(layered_testnet("inprocess"), tmp_path) as running:
        await running.inject("l1", PauseL1(slots=1))
        await running.inject("attester-3", AttestWrong(on=True))
        for node in ("l1", "agglayer", "attester-1"):
            with pytest.raises(InvalidInput, match="kill the experiment"):
                await running.kill(node)
        with pytest.raises(InvalidInput, match="kill the experiment"):
            await running.inject("agglayer", CrashAt(place="settlement.after_send", count=1))
        with pytest.raises(UnknownName, match="attester-4"):
            await running.inject("attester-4", AttestWrong(on=True))
        (frozen,) = await struck(running, [FaultTable(at_s=0, kind="prover_down")])
        assert "runs inside the coordinator" in frozen.problem


async def struck(running: RunningTestnet, tables: Sequence[FaultTable]) -> list[FaultRecord]:
    """Carry out faults while bundles are sent; what became of each."""
    faults: Sequence[PlannedFault] = plan_faults(
        tables, nodes=running.testnet.nodes_by_kind, seed=1, source="layered.toml"
    )

    async def sequenced_height() -> int:
        async with SequencerClient(running.sequencer_address) as sequencer:
            return (await sequencer.status()).head.height

    clock = SystemClock()
    injector = Injector(faults, running, sequenced_height=sequenced_height, clock=clock, tracer=DiscardingTracer())
    async with sending(running):
        await injector.run(start_ns=clock.monotonic_ns())
    return injector.records


@asynccontextmanager
async def sending(running: RunningTestnet) -> AsyncIterator[None]:
    """Bundles are sent as long as the block lasts, so that there is something to settle."""

    async def send_for_ever() -> None:
        nonce = 0
        while True:
            await send(running, nonce=nonce)
            nonce += 1
            await asyncio.sleep(LOAD_PAUSE_S)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(send_for_ever())
        yield
        task.cancel()


@pytest.fixture
def _alone() -> Iterator[None]:
    with one_ray_at_a_time():
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("_alone")
async def test_on_ray_every_fault_heals_and_nothing_is_settled_twice(tmp_path: Path) -> None:
    async with LAUNCHERS["ray"].start(layered_testnet("ray"), tmp_path) as running:
        assert running.attesters_separate
        records = await struck(
            running,
            [
                FaultTable(at_s=0, kind="kill", target="attester-1"),
                FaultTable(at_s=1, kind="reorg_l1"),
                FaultTable(at_s=2, kind="silence_reports", target="rollup-2", options={"for_s": 8}),
                FaultTable(at_s=2, kind="attest_wrong", target="attester-2", options={"for_s": 6}),
                FaultTable(at_s=5, kind="crash", options={"place": "settlement.after_send"}),
                FaultTable(at_s=9, kind="prover_down", options={"for_s": 1}),
            ],
        )
        assert [(record.kind, record.problem) for record in records if record.healed_ns is None] == []
        for node in ("rollup-1", "rollup-2"):
            await until_final(running, node, blocks=5)
    data = (tmp_path / "nodes" / "agglayer" / "trace.bin").read_bytes()
    found = [stamped.event for stamped in read_records(data[: whole_records(data)])]
    # Whoever was evicted (processes were killed as well) is back.
    notices = {event.network_id: event.kind for event in found if isinstance(event, NoticeLogged)}
    assert notices[2] == "rejoin"
    assert set(notices.values()) == {"rejoin"}
    assert any(isinstance(event, EvidenceFound) and "attester" in event.accused for event in found)
