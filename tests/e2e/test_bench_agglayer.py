"""Whole runs over the aggregation layer: money from L1, bundles that are made to fail, settlement, invariants."""

import asyncio
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.spec import load_testnet
from coordinator.spec.reader import builtin_scenarios
from coordinator.stages.sequenced_log import read_log
from coordinator.stages.verdict_log import VerdictLog, read_verdicts
from coordinator.testing import LockstepTestnet, running_testnet
from nodes.model.ids import NOTICE_ROLLUP_ID, RollupId
from nodes.model.verdict import VerdictSigned
from tests.support.adversaries import EXPECTED, Ran
from tests.support.bench import ROOT, bench, check_sound, lockstep, rows, run_json, scenario

pytestmark = pytest.mark.e2e

ADVERSARIES = [*sorted(name for name in builtin_scenarios() if name.startswith("adversaries/")), "fault-isolation"]
FORWARDER = ROOT / "contracts" / "artifacts" / "Forwarder.json"
TABLES = f"""
atomicity = "%s"
replay_window = 5

[agglayer]
certificate_interval_s = 0.3
report_timeout_ms = 60_000
attesters = 2

[l1]
slot_time_ms = 200

[genesis]
contracts = [{{ artifact = "{FORWARDER}", address = "0x2000000000000000000000000000000000000f0d" }}]

[workload]
kind = "bridge"
lanes = 8
failing_share = 0.1
unmatched_share = 0.1
forged_share = 0.1
replay_share = 0.3

[load]
rate_per_s = 25
duration_s = 3
warmup_s = 0.5
cooldown_s = 0.5
"""


@pytest.fixture(scope="module")
def attacked_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run in which a third of the bundles would print money, and others are replayed."""
    folder = tmp_path_factory.mktemp("attacked")
    out = folder / "run"
    check_sound(bench(scenario(folder, TABLES % "agglayer"), out), out)
    return out


@pytest.mark.slow
def test_what_would_print_money_is_aborted_and_everything_else_settles(attacked_run: Path) -> None:
    bundles = rows(attacked_run, "bundles")
    outcomes = Counter((row["outcome"], row["drop_reason"]) for row in bundles)
    assert set(outcomes) == {("succeeded", ""), ("aborted", "leg reverted"), ("aborted", "unmatched_mint")}
    for row in bundles:
        times = [row[f"{stage}_ns"] for stage in ("due", "executed", "atomic_safe", "proved", "settled")]
        if row["outcome"] == "succeeded":
            assert times == sorted(times)
        else:
            assert times[2:] == [None] * 3
    record = run_json(attacked_run)
    names = {"value_conserved", "no_partly_at_atomic_safe", "no_settled_abort", "ranges_contiguous", "verdicts_agree"}
    assert names <= set(record["invariants"])
    (token,) = [entry for entry in record["conservation"]["tokens"] if entry["token"] == "LOCK"]
    assert token["conserved"]
    assert int(token["escrow"]) == sum(map(int, token["supply"].values())) > 0
    assert record["generator"]["replays"] > 0
    assert record["generator"]["retired_lanes"] == 0, "no nonce of a victim moved"
    assert record["agglayer"]["settled_in_time"]
    assert "not a ZK proof" in record["agglayer"]["label"]
    assert record["verdicts"]["collateral"] == 0
    assert record["gas"]["total_gas"] > 0 < record["gas"]["bundles_settled"]
    assert record["reorgs"]["count"] > 0


@pytest.mark.slow
def test_verify_executes_it_again_without_what_was_struck(attacked_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(attacked_run, copy)
    done = lockstep("verify", copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok   rederivation_matches" in done.stdout
    assert "ok   verdicts_follow" in done.stdout


def test_a_verdict_log_that_was_changed_is_found(attacked_run: Path) -> None:
    testnet = load_testnet(attacked_run)
    assert testnet.agglayer is not None
    touched: dict[int, list[RollupId]] = {
        block.header.height: [rollup for rollup in block.contents if rollup != NOTICE_ROLLUP_ID]
        for block in read_log(attacked_run / "sequenced.log")
    }
    events = list(read_verdicts(attacked_run / "verdicts.log"))
    params, chain_id = testnet.agglayer.params, testnet.params.sequencer_chain_id
    whole = VerdictLog.check(events, touched, params, chain_id=chain_id)
    assert not whole.problem
    assert whole.reports > len(whole.by_height) > 10
    struck = next(at for at, event in enumerate(events) if isinstance(event, VerdictSigned) and len(event.rounds) > 1)
    event = events[struck]
    assert isinstance(event, VerdictSigned)
    shortened = [*events[:struck], replace(event, rounds=event.rounds[1:]), *events[struck + 1 :]]
    assert "not signed for the" in VerdictLog.check(shortened, touched, params, chain_id=chain_id).problem
    without = [*events[:struck], *events[struck + 1 :]]
    assert "does not follow" in VerdictLog.check(without, touched, params, chain_id=chain_id).problem
    forged = replace(event, signed=event.signed._replace(signature=bytes(65)))
    changed = [*events[:struck], forged, *events[struck + 1 :]]
    assert "not signed by the resolver" in VerdictLog.check(changed, touched, params, chain_id=chain_id).problem


@pytest.mark.slow
def test_what_others_import_from_a_rollup_that_never_settles_is_voided(tmp_path: Path) -> None:
    out = tmp_path / "run"
    # A committee signs certificates, so that the whole way of one is taken once.
    changes = {
        "signers": 3, "signer_threshold": 2, "attesters": 2, "slot_time_ms": 200, "void_after_blocks": 30,
        "report_timeout_ms": 60_000, "certificate_interval_s": 0.3, "warmup_s": 0.5, "cooldown_s": 0.5, "duration_s": 4,
        "drain_timeout_s": 60,
    }  # fmt: skip
    overrides = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    done = bench("adversaries/dead-source", out, *overrides)
    assert "Traceback" not in done.stderr, done.stderr
    record = run_json(out)
    assert all(entry["ok"] for entry in record["invariants"].values()), record["invariants"]
    bundles = rows(out, "bundles")
    outcomes = Counter((row["outcome"], row["drop_reason"]) for row in bundles)
    assert set(outcomes) == {("succeeded", ""), ("aborted", "voided")}
    voided = {row["bundle_id"] for row in bundles if row["outcome"] == "aborted"}
    assert {leg["rollup"] for leg in rows(out, "legs") if leg["bundle_id"] in voided and not leg["leg_index"]} == {
        "rollup-3"
    }, "they burn there"
    assert record["reorgs"]["count"] > 0, "safe goes back"
    settled = {row["rollup"] for row in rows(out, "certificates") if row["status"] == "settled" and row["exits"]}
    assert settled == {"rollup-1", "rollup-2"}


@pytest.mark.slow
def test_inclusion_alone_prints_money_and_says_how_much(tmp_path: Path) -> None:
    out = tmp_path / "run"
    check_sound(bench(scenario(tmp_path, TABLES % "inclusion"), out), out)
    record = run_json(out)
    (token,) = [entry for entry in record["conservation"]["tokens"] if entry["token"] == "LOCK"]
    assert int(token["created"]) > 0
    assert not token["conserved"]
    assert record["invariants"]["value_conserved"]["ok"], "reported, not promised"
    assert any(row["outcome"] == "partly" for row in rows(out, "bundles"))


@pytest.mark.slow
@pytest.mark.skipif("LOCKSTEP_ADVERSARIES" not in os.environ, reason="15 minutes; set LOCKSTEP_ADVERSARIES=1")
@pytest.mark.parametrize("name", ADVERSARIES)
def test_an_adversary_breaks_no_invariant_and_the_honest_settle(name: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = bench(name, out)
    assert "Traceback" not in done.stderr, done.stderr
    assert (out / "run.json").exists(), done.stdout + done.stderr
    record = run_json(out)
    assert all(entry["ok"] for entry in record["invariants"].values()), record["invariants"]
    assert all(fault["healed_ns"] for fault in record["faults"]), record["faults"]
    settled = {row["rollup"] for row in rows(out, "certificates") if row["status"] == "settled" and row["exits"]}
    liars = set(record["agglayer"]["liars"])
    workload = record["workload"]
    expected = {f"rollup-{number}" for number in range(1, record["rollups"] + 1)} - liars
    assert expected <= settled or workload == "conflict", "every honest rollup settled what left it"
    assert any(row["outcome"] == "succeeded" for row in rows(out, "bundles"))
    EXPECTED[name.removeprefix("adversaries/")](Ran(directory=out))


def test_of_every_adversary_something_is_expected() -> None:
    assert set(EXPECTED) == {name.removeprefix("adversaries/") for name in ADVERSARIES}


@pytest.mark.slow
def test_a_client_follows_bundles_to_verdict_and_settlement(tmp_path: Path) -> None:
    overrides = ["testnet.rollups=2", "atomicity=agglayer", "slot_time_ms=200", "certificate_interval_s=0.2"]
    with running_testnet(tmp_path / "testnet", overrides=[*overrides, "attesters=2"]) as testnet:
        stages = asyncio.run(_transfers(testnet))
    assert stages == [
        ["sequenced", "leg", "leg", "executed", "firm", "aborted"],
        ["sequenced", "leg", "leg", "executed", "firm", "atomic_safe", "settled", "final"],
    ]


async def _transfers(testnet: LockstepTestnet) -> list[list[str]]:
    """The stages of a mint without a burn, and of two plain payments in one bundle."""
    alice, bob = testnet.accounts[:2]
    sender = bytes.fromhex(alice.address[2:])
    async with testnet.client() as client:
        payments: list[dict[str, object]] = [
            {"rollup": name, "sender": alice.address, "to": bob.address, "value": 1}
            for name in ("rollup-1", "rollup-2")
        ]
        moved = await client.bridge_transfer(sender=sender, source="rollup-1", dest="rollup-2", amount=5)
        mint = moved.legs[1].transaction
        forged: dict[str, object] = {
            "rollup": 7002,
            "sender": alice.address,
            "to": mint.to,
            "data": mint.calldata,
            "gas": mint.gas_limit,
        }
        told = []
        for legs, until_settled in (([payments[0], forged], False), (payments, True)):
            # Built one after the other: what was struck is burnt, so that nonces have gone on.
            bundle = (await client.build(legs)).sign(alice.private_key)
            await bundle.submit(client)
            told.append([event.stage async for event in client.follow(bundle, until_settled=until_settled)])
    return told
