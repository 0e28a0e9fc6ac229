"""What run.json says of the aggregation layer: settings, gas, proofs, what was refused and why, capital. Pure.

It reads traces and what was read from the chains; times and per-certificate figures stand in the tables.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from coordinator.collect.join import OUTCOMES, REASONS, BundleFates
from coordinator.collect.node_trace import NodeTrace
from coordinator.collect.settling import BundleStages, CertificateLife
from coordinator.spec.testnet import ResolvedTestnet
from coordinator.stages.value import Books, TokenCount, uncounted_tokens
from nodes.agglayer.provers import PROVERS
from nodes.telemetry.events import (
    BundleJudged,
    EvidenceFound,
    NoticeLogged,
    ProofMade,
    SettlementMoved,
    VerdictIssued,
)

MAX_REASONS = 20
MAX_LISTED = 200
"""Entries of one list in run.json; the counts beside them are whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgglayerFacts:
    """What the account is made of."""

    testnet: ResolvedTestnet
    traces: Mapping[str, NodeTrace]
    offsets_ns: Mapping[str, int]
    lives: Sequence[CertificateLife]
    stages: BundleStages
    fates: BundleFates
    books: Books | None
    """None where the chains could not be read at the end."""
    counts: Sequence[TokenCount]
    settled_in_time: bool | None
    """Whether everything that stands was settled when the run ended; None where nothing settles."""
    refusals: Sequence[str]
    """Why bundles were refused when they were handed in, one entry each."""
    attesters_separate: bool
    """Each attester is a process of its own; otherwise the threshold guards nothing."""


def agglayer_account(facts: AgglayerFacts) -> dict[str, Any]:
    """The part of run.json that is about the aggregation layer."""
    layer = facts.testnet.agglayer
    assert layer is not None
    params = layer.params
    verdicts = [event for trace in facts.traces.values() for _, event in trace.of(VerdictIssued)]
    return {
        "agglayer": {
            "prover": layer.prover,
            # Said wherever a prover is named, so that nobody takes a signature for a proof.
            "label": PROVERS[layer.prover].describe,
            "attesters": len(params.attesters),
            "threshold": params.attester_threshold,
            "attesters_separate": facts.attesters_separate,
            "slot_time_ms": layer.slot_time_ms,
            "finality_slots": layer.finality_slots,
            "epoch_blocks": layer.epoch_blocks,
            "serial_rounds": params.serial_rounds,
            "abort_rule": params.abort_rule,
            "speculation_heights": layer.speculation_heights,
            "report_timeout_ms": layer.report_timeout_ms,
            "void_after_blocks": layer.void_after_blocks,
            "oracle_level": layer.oracle_level,
            "certificate_interval_s": layer.certificate_interval_s,
            "settle": layer.settle,
            "settled_in_time": facts.settled_in_time,
            "liars": dict(layer.liars),
        },
        "verdicts": {
            "issued": len(verdicts),
            "epochs": max((event.epoch for event in verdicts), default=0) + 1,
            "rounds": sum(event.rounds for event in verdicts),
            "most_rounds": max((event.rounds for event in verdicts), default=0),
            "aborted": sum(event.aborted for event in verdicts),
            "collateral": sum(event.struck_together for event in verdicts),
        },
        "gas": _gas(facts),
        "proofs": _proofs(facts.traces.values()),
        "refused": _refused(facts),
        "notices": _notices(facts),
        "evidence": _evidence(facts),
        "conservation": {
            "tokens": [count.to_json() for count in facts.counts],
            "not_counted": _not_counted(facts.books),
        },
        "capital": _capital(facts),
    }


def _not_counted(books: Books | None) -> list[dict[str, Any]]:
    return [] if books is None else [token.to_json() for token in uncounted_tokens(books)[:MAX_LISTED]]


def _gas(facts: AgglayerFacts) -> dict[str, Any]:
    """Gas of settlements that stand: of each transaction what its last inclusion used."""
    included: dict[bytes, SettlementMoved] = {}
    reorged = reverted = 0
    for trace in facts.traces.values():
        for _, move in trace.of(SettlementMoved):
            if move.step in ("included", "final"):
                # A settlement that was included elsewhere after a reorg is counted once, as it stands.
                included[move.tx_hash] = move if move.gas_used else included.get(move.tx_hash, move)
            elif move.step == "reorged":
                included.pop(move.tx_hash, None)
                reorged += 1
            reverted += move.step == "reverted"
    total = sum(move.gas_used for move in included.values())
    certificates = sum(len(move.certificate_ids) for move in included.values())
    settled = facts.stages.settled
    bundles = int((settled >= 0).sum()) if settled is not None else 0
    return {
        "settlements": len(included),
        "certificates": certificates,
        "total_gas": total,
        "bundles_settled": bundles,
        "gas_per_bundle": total / bundles if bundles else None,
        "gas_per_certificate": total / certificates if certificates else None,
        "bundles_per_certificate": bundles / certificates if certificates else None,
        "reorged": reorged,
        "reverted": reverted,
    }


def _proofs(traces: Iterable[NodeTrace]) -> dict[str, Any]:
    made = [event for trace in traces for _, event in trace.of(ProofMade)]
    return {
        "made": len(made),
        "certificates": sum(event.certificates for event in made),
        "exits": sum(event.exits for event in made),
        "imports": sum(event.imports for event in made),
        "duration_s": sum(event.duration_ns for event in made) / 1e9,
        "modelled_s": sum(event.modelled_ns for event in made) / 1e9,
    }


def _refused(facts: AgglayerFacts) -> dict[str, Any]:
    """What was refused and why, for people: certificates in error, settlements that reverted, aborted bundles."""
    names = {number: rollup.name for number, rollup in enumerate(facts.testnet.rollups, start=1)}
    in_error = [life for life in facts.lives if life.status == "in_error"]
    aborted = facts.fates.outcome == OUTCOMES.index("aborted")
    reasons = Counter(int(code) for code in facts.fates.reason[aborted])
    return {
        "certificates": [
            {
                "rollup": names.get(life.network_id, f"network {life.network_id}"),
                "certificate_height": life.certificate_height,
                "certificate_id": life.certificate_id.hex(),
                "error": life.error,
            }
            for life in in_error[:MAX_LISTED]
        ],
        "certificates_in_error": len(in_error),
        # By builder or sequencer, before anything was ordered. Figures in brackets differ from bundle to bundle.
        "submissions": dict(Counter(reason.partition("(")[0] for reason in facts.refusals).most_common(MAX_REASONS)),
        "bundles": {REASONS[code]: count for code, count in sorted(reasons.items())},
    }


def _notices(facts: AgglayerFacts) -> list[dict[str, Any]]:
    names = {number: rollup.name for number, rollup in enumerate(facts.testnet.rollups, start=1)}
    return [
        {
            "at_ns": at_ns + facts.offsets_ns.get(trace.node, 0),
            "kind": notice.kind,
            "epoch": notice.epoch,
            "height": notice.height,
            "rollup": names.get(notice.network_id, ""),
            "voided": notice.voided,
        }
        for trace in facts.traces.values()
        for at_ns, notice in trace.of(NoticeLogged)
    ][:MAX_LISTED]


def _evidence(facts: AgglayerFacts) -> list[dict[str, Any]]:
    return [
        {
            "at_ns": at_ns + facts.offsets_ns.get(trace.node, 0),
            "found_by": trace.node,
            "accused": evidence.accused,
            "detail": evidence.detail,
        }
        for trace in facts.traces.values()
        for at_ns, evidence in trace.of(EvidenceFound)
    ][:MAX_LISTED]


def _capital(facts: AgglayerFacts) -> dict[str, Any]:
    """What had to be locked for the run: escrow on L1, and bonds of the builder."""
    judged = [event for trace in facts.traces.values() for _, event in trace.of(BundleJudged)]
    layer = facts.testnet.agglayer
    assert layer is not None
    escrow = {f"escrow_{count.token}": str(count.escrow) for count in facts.counts if count.escrow}
    if facts.books is not None and facts.testnet.agglayer is not None:
        lent = sum(rollup.bank_outstanding for rollup in facts.books.rollups)
        escrow |= {"bank_outstanding": str(lent)} if lent else {}
    if layer.builder is None:
        return escrow
    return escrow | {
        "bond_wei": str(layer.builder.bond_wei),
        "most_bonded_wei": str(max((event.bonded_wei for event in judged), default=0)),
        "bundles_judged": sum(event.ordered + event.refused for event in judged),
        "bundles_refused": sum(event.refused for event in judged),
    }


def reorg_depths(traces: Iterable[NodeTrace]) -> dict[str, Any]:
    """How deep users saw blocks go away: the distribution over all reorgs of all rollup nodes."""
    depths = np.array([reorg.from_height - reorg.to_height for trace in traces for _, reorg in trace.reorgs])
    counts = Counter(int(depth) for depth in depths)
    return {
        "count": len(depths),
        "deepest": int(depths.max()) if len(depths) else 0,
        "by_depth": {str(depth): count for depth, count in sorted(counts.items())},
    }
