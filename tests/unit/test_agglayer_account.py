"""What a run says of its aggregation layer, from synthetic traces: gas of what stands, refusals in words, reorgs."""

import numpy as np

from coordinator.collect.join import OUTCOMES, REASONS, BundleFates
from coordinator.collect.node_trace import NodeTrace
from coordinator.collect.settling import BundleStages, CertificateLife
from coordinator.spec import load_scenario, resolve
from coordinator.stages.agglayer_account import AgglayerFacts, agglayer_account, reorg_depths
from coordinator.workload.table import option_types
from nodes.telemetry.events import (
    BlockReorged,
    Event,
    EvidenceFound,
    NoticeLogged,
    ProofMade,
    SettlementMoved,
    Stamped,
    VerdictIssued,
)
from nodes.wire.trace_records import stamped_to_bytes


def trace(node: str, *events: Event) -> NodeTrace:
    made = NodeTrace(node)
    for at_ns, event in enumerate(events):
        made.feed(stamped_to_bytes(Stamped(monotonic_ns=at_ns, wall_ns=at_ns, event=event)))
    return made


def settlement(step: str, tx: int, gas: int = 0) -> SettlementMoved:
    return SettlementMoved(
        step=step, tx_hash=bytes([tx]) * 32, l1_block=9, gas_used=gas, certificate_ids=(b"\1" * 32, b"\2" * 32)
    )


def facts(*traces: NodeTrace) -> AgglayerFacts:
    testnet = resolve(load_scenario("bridge", ["testnet.rollups=2"], workloads=option_types()))
    times = np.array([5, 6, -1], dtype=np.int64)
    outcome = np.array([OUTCOMES.index(name) for name in ("succeeded", "succeeded", "aborted")], dtype=np.int8)
    fates = BundleFates(
        outcome=outcome, reason=np.array([0, 0, REASONS.index("unmatched_mint")], np.int8), height=times,
        sequenced_ns=times, firm_ns=times, executed_ns=times, unbundled=np.zeros(3, np.bool_),
    )  # fmt: skip
    refused = CertificateLife(
        network_id=2, certificate_height=4, certificate_id=b"\7" * 32, first_height=1, last_height=2,
        status="in_error", error="BalanceUnderflow",
    )  # fmt: skip
    return AgglayerFacts(
        testnet=testnet, traces={item.node: item for item in traces}, offsets_ns={"agglayer": 100}, lives=[refused],
        stages=BundleStages(times, times, times, times), fates=fates, books=None, counts=(), settled_in_time=True,
        refusals=["leg 4 reverts: NotProfitable(1)", "leg 4 reverts: NotProfitable(2)"], attesters_separate=True,
    )  # fmt: skip


def test_gas_counts_each_settlement_that_stands_once() -> None:
    agglayer = trace(
        "agglayer", settlement("sent", 1), settlement("included", 1, 300_000), settlement("final", 1, 300_000),
        settlement("included", 2, 500_000), settlement("reorged", 2), settlement("included", 3, 200_000),
        settlement("reverted", 4, 50_000),
    )  # fmt: skip
    gas = agglayer_account(facts(agglayer))["gas"]
    assert (gas["settlements"], gas["total_gas"], gas["certificates"]) == (2, 500_000, 4)
    assert (gas["bundles_settled"], gas["gas_per_bundle"]) == (2, 250_000)
    assert (gas["reorged"], gas["reverted"]) == (1, 1)


def test_what_was_refused_is_said_in_words() -> None:
    found = agglayer_account(facts())["refused"]
    assert found["certificates"][0] == {
        "rollup": "rollup-2", "certificate_height": 4, "certificate_id": "07" * 32, "error": "BalanceUnderflow",
    }  # fmt: skip
    assert found["bundles"] == {"unmatched_mint": 1}
    assert found["submissions"] == {"leg 4 reverts: NotProfitable": 2}


def test_verdicts_proofs_notices_and_evidence_are_added_up() -> None:
    agglayer = trace(
        "agglayer",
        VerdictIssued(epoch=0, height=1, rounds=1, aborted=0, struck_together=0, networks=2),
        VerdictIssued(epoch=1, height=2, rounds=3, aborted=2, struck_together=1, networks=2),
        NoticeLogged(kind="evict", epoch=0, height=4, network_id=2, voided=0),
        EvidenceFound(accused="rollup-2", detail="two reports of height 4"),
        ProofMade(prover="attested", certificates=2, exits=10, imports=4, duration_ns=10**9, modelled_ns=0),
    )
    account = agglayer_account(facts(agglayer))
    assert account["verdicts"] == {
        "issued": 2, "epochs": 2, "rounds": 4, "most_rounds": 3, "aborted": 2, "collateral": 1,
    }  # fmt: skip
    assert account["proofs"]["exits"] == 10
    (notice,) = account["notices"]
    assert (notice["kind"], notice["rollup"], notice["at_ns"]) == ("evict", "rollup-2", 102)
    assert account["evidence"][0]["accused"] == "rollup-2"
    assert "not a ZK proof" in account["agglayer"]["label"]


def test_reorgs_are_counted_by_depth() -> None:
    node = trace("rollup-1", BlockReorged(from_height=5, to_height=4), BlockReorged(from_height=9, to_height=6))
    assert reorg_depths([node]) == {"count": 2, "deepest": 3, "by_depth": {"1": 1, "3": 1}}
    assert reorg_depths([]) == {"count": 0, "deepest": 0, "by_depth": {}}
