"""What a run of each `adversaries/` scenario, and of `fault-isolation`, must show beyond what every run keeps.

One function per scenario, called with the finished run; `EXPECTED` is the table. What an attacker crafted is recognized
in the sequenced log, by what it sent, and not by what became of it.
"""

import json
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from coordinator.stages.sequenced_log import read_log
from coordinator.workload.bridge import CUSHION, FORWARDER
from coordinator.workload.conflict import NEVER_REACHED
from nodes.evm.contracts import selector
from nodes.model.ids import NOTICE_ROLLUP_ID
from nodes.rules.hashes import keccak256
from tests.support.bench import rows, run_json

_ON_THE_WAY_NS = 1_000_000_000
"""A proof that was asked for before a fault may still arrive: two slots, on a machine that is busy."""
_BURN = selector("bridgeAsset(uint32,address,uint256,address,bool,bytes)")
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A finished run, read where it is asked for."""

    directory: Path

    @cached_property
    def record(self) -> dict[str, Any]:
        """run.json."""
        return run_json(self.directory)

    @cached_property
    def scenario(self) -> dict[str, Any]:
        """The scenario as it was run."""
        return tomllib.loads((self.directory / "scenario.toml").read_text(encoding="utf-8"))

    @cached_property
    def bundles(self) -> list[dict[str, Any]]:
        """Rows of all bundles."""
        return rows(self.directory, "bundles")

    @cached_property
    def certificates(self) -> list[dict[str, Any]]:
        """Rows of all certificates."""
        return rows(self.directory, "certificates")

    @cached_property
    def settlements(self) -> list[dict[str, Any]]:
        """Steps of settlement transactions, in the order in which they were traced."""
        return rows(self.directory, "settlements")

    @cached_property
    def route(self) -> dict[int, list[str]]:
        """Names of the rollups that a bundle touches, by leg."""
        found: dict[int, list[str]] = {}
        for leg in sorted(rows(self.directory, "legs"), key=lambda leg: int(leg["leg_index"])):
            found.setdefault(leg["bundle_id"], []).append(leg["rollup"])
        return found

    @property
    def succeeded(self) -> list[dict[str, Any]]:
        """Bundles that stand whole."""
        return [row for row in self.bundles if row["outcome"] == "succeeded"]

    @property
    def aborted(self) -> dict[int, str]:
        """Bundles that were struck, and why."""
        return {row["bundle_id"]: row["drop_reason"] for row in self.bundles if row["outcome"] == "aborted"}

    def containing(self, part: bytes) -> set[int]:
        """Bundles with a leg that has these bytes in it."""
        bundle_of = {leg["tx_hash"]: int(leg["bundle_id"]) for leg in rows(self.directory, "legs")}
        hits = set()
        for block in read_log(self.directory / "sequenced.log"):
            for rollup_id, content in block.contents.items():
                if rollup_id != NOTICE_ROLLUP_ID:
                    hits |= {keccak256(payload) for payload in content.payloads if part in payload}
        return {bundle_of[tx_hash] for tx_hash in hits if tx_hash in bundle_of}

    def window(self) -> tuple[int, int]:
        """From when the first fault bites until the last is taken back, in ns of the coordinator's clock."""
        faults, told = self.record["faults"], self.scenario["faults"]
        begins = min(fault["injected_ns"] for fault in faults)
        ends = max(
            fault["injected_ns"] + round(1e9 * entry["for_s"]) for fault, entry in zip(faults, told, strict=True)
        )
        return begins, ends

    def proven_ns(self) -> list[int]:
        """When each certificate was proven, of those that were."""
        return [row["proven_ns"] for row in self.certificates if row["proven_ns"]]


def _all_settled(bundles: Iterable[Row]) -> None:
    late = [row["bundle_id"] for row in bundles if row["settled_ns"] is None]
    assert not late, f"bundles {late[:10]} were never settled"


def _all_succeed(ran: Ran) -> None:
    """Nothing is struck, and everything settles."""
    assert Counter(row["outcome"] for row in ran.bundles) == {"succeeded": len(ran.bundles)}
    _all_settled(ran.bundles)
    assert ran.record["agglayer"]["settled_in_time"]


def _only_struck(ran: Ran, crafted: set[int], reason: str) -> None:
    """Exactly these were aborted, for this reason, and nothing of them settled; all others did."""
    assert crafted, "the attack took place"
    assert ran.aborted == dict.fromkeys(crafted, reason)
    assert ran.record["refused"]["bundles"] == {reason: len(crafted)}
    for row in ran.bundles:
        if row["bundle_id"] in crafted:
            assert row["atomic_safe_ns"] is row["proved_ns"] is row["settled_ns"] is None
    assert len(ran.succeeded) == len(ran.bundles) - len(crafted)
    _all_settled(ran.succeeded)
    assert ran.record["verdicts"]["collateral"] == 0


def _settled_once(ran: Ran) -> None:
    """Every certificate that settled did so in one transaction, and none of a rollup is left out."""
    standing: dict[bytes, Row] = {}
    for step in ran.settlements:
        if step["step"] == "included":
            assert step["tx_hash"] not in standing, "included twice without a reorg"
            standing[step["tx_hash"]] = step
        elif step["step"] in ("reorged", "reverted", "replaced"):
            standing.pop(step["tx_hash"], None)
    settled = [row for row in ran.certificates if row["status"] == "settled"]
    # The run may end between the block of the newest settlement and the word that its certificates are settled.
    newest = max(standing.values(), key=lambda step: int(step["at_ns"]))["tx_hash"]
    late = [row for row in ran.certificates if (row["status"], row["settlement_tx"]) == ("candidate", newest)]
    assert Counter(row["settlement_tx"] for row in settled + late) == {
        tx_hash: step["certificates"] for tx_hash, step in standing.items()
    }
    for network in {row["network_id"] for row in settled}:
        heights = [row["certificate_height"] for row in settled if row["network_id"] == network]
        assert sorted(heights) == list(range(len(heights)))
    final = [step["tx_hash"] for step in ran.settlements if step["step"] == "final"]
    assert len(set(final)) == len(final) > 0
    last_final = max(standing[tx_hash]["l1_block"] for tx_hash in final)
    due = {tx_hash for tx_hash, step in standing.items() if step["l1_block"] <= last_final}
    assert set(final) == due, "what is not final is younger than what is"


def _aggregator_killed(ran: Ran) -> None:
    _all_succeed(ran)
    assert len(ran.record["faults"]) == len(ran.scenario["faults"])
    assert {step["step"] for step in ran.settlements} == {"sent", "included", "final"}
    _settled_once(ran)
    last = max(fault["injected_ns"] for fault in ran.record["faults"])
    assert any(row["settled_ns"] and row["settled_ns"] > last for row in ran.certificates), "it goes on after the last"


def _accused(ran: Ran) -> set[str]:
    return {entry["accused"] for entry in ran.record["evidence"]}


def _attesters(ran: Ran) -> set[str]:
    """As evidence names them: those that were given a fault."""
    folders = [ran.directory / "testnet" / "nodes" / fault["target"] for fault in ran.record["faults"]]
    ports = [json.loads((folder / "ports.json").read_text(encoding="utf-8"))["grpc"] for folder in folders]
    return {f"attester 127.0.0.1:{port}" for port in ports}


def _attester_wrong_below(ran: Ran) -> None:
    _all_succeed(ran)
    assert len(ran.record["faults"]) < ran.record["agglayer"]["threshold"]
    assert _accused(ran) == _attesters(ran)
    begins, ends = ran.window()
    assert any(begins < at_ns < ends for at_ns in ran.proven_ns()), "two carry on"
    assert "reverted" not in {step["step"] for step in ran.settlements}


def _attester_wrong_above(ran: Ran) -> None:
    _all_succeed(ran)
    assert _accused(ran) == _attesters(ran)
    assert len(_accused(ran)) == ran.record["agglayer"]["threshold"]
    _nothing_is_proven_meanwhile(ran)
    assert "reverted" not in {step["step"] for step in ran.settlements}, "L1 is shown no proof that it refuses"


def _nothing_is_proven_meanwhile(ran: Ran) -> None:
    """Settlement stands still while a fault lasts, atomic-safe does not wait, and all is made up for afterwards."""
    begins, ends = ran.window()
    proven = ran.proven_ns()
    assert not [at_ns for at_ns in proven if begins + _ON_THE_WAY_NS < at_ns < ends]
    assert min(proven) < begins
    assert max(proven) > ends
    assert any(begins < row["atomic_safe_ns"] < ends for row in ran.succeeded)


def _prover_down(ran: Ran) -> None:
    _all_succeed(ran)
    assert not ran.record["evidence"]
    _nothing_is_proven_meanwhile(ran)


def _prover_slow(ran: Ran) -> None:
    _all_succeed(ran)
    assert not ran.record["evidence"]
    begins, ends = ran.window()
    delay_ns = 1e6 * min(fault["delay_ms"] for fault in ran.scenario["faults"])
    asked = [row for row in ran.certificates if row["pending_ns"] and begins < row["pending_ns"] < ends - delay_ns]
    assert asked
    assert all(row["proven_ns"] - row["pending_ns"] >= delay_ns for row in asked), "no threshold without a slow one"


def _careless_builder(ran: Ran) -> None:
    bond, outcomes = ran.record["bond"], Counter(row["outcome"] for row in ran.bundles)
    assert set(outcomes) == {"succeeded", "partly"}
    assert bond["paid"] == bond["executed_not_whole"] == outcomes["partly"]
    assert not bond["unpaid"]
    promises = bond["promises"]
    assert promises == {
        "made": len(ran.bundles), "open": 0, "due": 0, "expired": 0,
        "kept": outcomes["succeeded"], "paid": outcomes["partly"],
    }  # fmt: skip
    assert int(bond["paid_wei"]) == outcomes["partly"] * int(bond["account"]["promise_wei"])
    _all_settled(ran.bundles)
    (token,) = [entry for entry in ran.record["conservation"]["tokens"] if entry["token"] == "LOCK"]
    assert int(token["created"]) > 0, "reported"


def _bad_certificates(ran: Ran) -> None:
    _all_succeed(ran)
    (fault,) = ran.record["faults"]
    assert not fault["problem"]
    answers = {attempt["what"]: (attempt["where"], attempt["answer"]) for attempt in fault["attempts"]}
    assert len(answers) == len(fault["attempts"]) == len(_REFUSALS)
    for what, (where, part) in _REFUSALS.items():
        assert answers[what][0] == where
        assert part in answers[what][1], answers[what]
    in_error = [row for row in ran.certificates if row["status"] == "in_error"]
    assert {row["rollup"] for row in in_error} == {"rollup-1"}
    assert sorted(row["error"].split(":")[0] for row in in_error) == ["BalanceUnderflow", "MismatchNewLocalExitRoot"]
    last = max(row["built_ns"] or row["pending_ns"] for row in in_error)
    settled = [row for row in ran.certificates if row["rollup"] == "rollup-1" and row["status"] == "settled"]
    assert any(row["settled_ns"] > last for row in settled), "the rollup whose keys were stolen settles on"
    _settled_once(ran)


_REFUSALS: Mapping[str, tuple[str, str]] = {
    "a certificate of a wrong signer": ("agglayer", "SIGNATURE_VERIFICATION"),
    "a certificate at a wrong height": ("agglayer", "the next height of the network is"),
    "a settled certificate again": ("agglayer", "certificate "),
    "a contingent mint on L1": ("L1", "ContingentMintNotOnMainnet()"),
    "a claim on L1 of an exit that nobody made": ("L1", "InvalidSmtProof()"),
    "a settlement once more": ("L1", "OnlyTrustedAggregatorUntil(blockNumber="),
    "a settlement once more, by the aggregator": ("L1", "RangeNotContinuous(rollupID="),
    "a claim once more": ("rollup-1", "AlreadyClaimed()"),
    "a certificate with a forged exit root": ("pessimistic program", "MismatchNewLocalExitRoot: "),
    "a certificate with an exit above the balance": ("pessimistic program", "BalanceUnderflow: "),
}
"""What is forged, who refuses it, and a part of the words."""


def _dead_source(ran: Ran) -> None:
    notices = ran.record["notices"]
    assert {notice["kind"] for notice in notices} == {"void"}
    voided = {bundle for bundle, reason in ran.aborted.items() if reason == "voided"}
    assert 0 < len(voided) <= sum(notice["voided"] for notice in notices)
    assert set(ran.aborted) == voided
    assert {ran.route[bundle][0] for bundle in voided} == {"rollup-3"}, "they burn there"
    assert ran.record["reorgs"]["count"] > 0, "safe goes back"
    assert not [row for row in ran.certificates if row["rollup"] == "rollup-3" and row["exits"] and row["settled_ns"]]
    _all_settled(row for row in ran.succeeded if "rollup-3" not in ran.route[row["bundle_id"]])


def _forged_trailer(ran: Ran) -> None:
    _only_struck(ran, ran.containing(FORWARDER), "leg reverted")


def _greedy_sequencer(ran: Ran) -> None:
    too_much = _amount_of_failing(ran)
    _only_struck(ran, ran.containing(too_much), "leg reverted")
    assert ran.record["refused"]["submissions"] == {}, "all were sequenced"


def _amount_of_failing(ran: Ran) -> bytes:
    """The word of an amount that no lane has."""
    amount = ran.scenario["workload"].get("amount", 1_000)
    return int(amount * CUSHION * ran.record["rollups"] + 1).to_bytes(32, "big")


def _l1_reorg(ran: Ran) -> None:
    _all_succeed(ran)
    taken_back = [at for at, step in enumerate(ran.settlements) if step["step"] == "reorged"]
    assert len(taken_back) == ran.record["gas"]["reorged"] > 0
    for at in taken_back:
        gone, later = ran.settlements[at], ran.settlements[at + 1 :]
        again = {step["step"] for step in later if step["tx_hash"] == gone["tx_hash"]}
        assert again & {"included", "reverted", "replaced"}, "it did not end there"
    _settled_once(ran)
    for at, step in enumerate(ran.settlements):
        if step["step"] == "final":
            moves = [other["step"] for other in ran.settlements[at + 1 :] if other["tx_hash"] == step["tx_hash"]]
            assert not moves, "what is final never moves"


def _liar(ran: Ran) -> None:
    failing = ran.containing(_amount_of_failing(ran))
    lied = {bundle for bundle in failing if ran.route[bundle][0] == "rollup-2"}
    assert lied < failing
    assert lied
    reasons = {bundle: "unmatched_mint" if bundle in lied else "leg reverted" for bundle in failing}
    assert ran.aborted == reasons
    assert len(ran.succeeded) == len(ran.bundles) - len(failing)
    _all_settled(ran.succeeded)
    assert all(row["settled_ns"] is None for row in ran.bundles if row["bundle_id"] in failing)


def _mint_without_burn(ran: Ran) -> None:
    burning = ran.containing(_BURN)
    assert burning
    _only_struck(ran, {row["bundle_id"] for row in ran.bundles} - burning, "unmatched_mint")


def _replay(ran: Ran) -> None:
    _all_succeed(ran)
    generator = ran.record["generator"]
    assert generator["retired_lanes"] == 0, "no nonce of a victim moved"
    assert ran.record["verdicts"]["aborted"] == generator["replays"] > 0, "each replay is struck"
    assert ran.record["verdicts"]["collateral"] == 0


def _ring(ran: Ran) -> None:
    _all_succeed(ran)
    assert ran.record["verdicts"]["aborted"] == 0
    assert all(set(route) == {"rollup-1", "rollup-2", "rollup-3"} for route in ran.route.values())


def _rival_killer(ran: Ran) -> None:
    _only_struck(ran, ran.containing(NEVER_REACHED.to_bytes(32, "big")), "leg reverted")
    assert ran.record["verdicts"]["aborted"] == len(ran.aborted) > 0


def _silent_rollup(ran: Ran) -> None:
    notices = [(notice["kind"], notice["rollup"]) for notice in ran.record["notices"]]
    assert notices == [("evict", "rollup-3"), ("rejoin", "rollup-3")]
    evict, rejoin = ran.record["notices"]
    assert evict["at_ns"] < rejoin["at_ns"]
    silent = ran.record["faults"][0]["injected_ns"]
    assert evict["at_ns"] - silent >= 1e6 * ran.record["agglayer"]["report_timeout_ms"]
    assert set(ran.aborted.values()) == {"evicted"}
    others = [row for row in ran.bundles if "rollup-3" not in ran.route[row["bundle_id"]]]
    assert {row["outcome"] for row in others} == {"succeeded"}
    _all_settled(others)
    assert any(evict["at_ns"] < row["atomic_safe_ns"] < rejoin["at_ns"] for row in others), "they go on without it"
    after = [
        row
        for row in ran.succeeded
        if "rollup-3" in ran.route[row["bundle_id"]] and row["sequenced_ns"] > rejoin["at_ns"]
    ]
    assert after, "it takes part again"
    _all_settled(after)


def _unsound_rollup(ran: Ran, unsound: str = "rollup-3") -> None:
    (ether,) = [entry for entry in ran.record["conservation"]["tokens"] if entry["token"] == "ether"]
    taken = -int(ether["supply"].pop(unsound))
    assert taken > 0, "more was sent away than ever came"
    assert int(ether["in_flight"]) == taken, "and nothing of it has come anywhere"
    assert int(ether["created"]) == 0
    assert int(ether["escrow"]) >= sum(map(int, ether["supply"].values())), "what others hold is covered"
    last_out: dict[str, int] = {}
    for row in ran.certificates:
        if row["exits"] and row["settled_ns"]:
            last_out[row["rollup"]] = max(row["settled_ns"], last_out.get(row["rollup"], 0))
    assert last_out.pop(unsound, 0) < min(last_out.values()), "exits of the others go on"
    assert set(ran.aborted.values()) <= {"voided"}
    assert {unsound in ran.route[bundle] for bundle in ran.aborted} <= {True}
    stuck = [row for row in ran.succeeded if row["settled_ns"] is None]
    assert stuck or ran.aborted
    _all_settled(row for row in ran.succeeded if unsound not in ran.route[row["bundle_id"]])


def _fault_isolation(ran: Ran) -> None:
    _unsound_rollup(ran, "rollup-4")
    assert {notice["kind"] for notice in ran.record["notices"]} == {"void"}, "nobody was held for silent meanwhile"
    assert set(ran.aborted.values()) == {"voided"}
    assert {ran.route[bundle][0] for bundle in ran.aborted} == {"rollup-4"}, "they burn there"
    assert ran.record["agglayer"]["settled_in_time"], "all that can settle"


EXPECTED: Mapping[str, Callable[[Ran], None]] = {
    "aggregator-killed": _aggregator_killed,
    "attester-wrong-above": _attester_wrong_above,
    "attester-wrong-below": _attester_wrong_below,
    "bad-certificates": _bad_certificates,
    "careless-builder": _careless_builder,
    "dead-source": _dead_source,
    "fault-isolation": _fault_isolation,
    "forged-trailer": _forged_trailer,
    "greedy-sequencer": _greedy_sequencer,
    "l1-reorg": _l1_reorg,
    "liar": _liar,
    "mint-without-burn": _mint_without_burn,
    "prover-down": _prover_down,
    "prover-slow": _prover_slow,
    "replay": _replay,
    "ring": _ring,
    "rival-killer": _rival_killer,
    "silent-rollup": _silent_rollup,
    "unsound-rollup": _unsound_rollup,
}
"""By the last part of a scenario's name."""
