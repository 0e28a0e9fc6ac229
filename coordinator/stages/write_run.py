"""The run directory of a finished (or interrupted) load: join the traces, check the invariants, write every file."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from coordinator.collect.join import OUTCOMES, BundleFates, SentBundles, bundle_fates, leg_fates
from coordinator.collect.node_trace import NodeTrace
from coordinator.collect.settling import BundleStages, CertificateLife, bundle_stages, certificate_lives
from coordinator.collect.tables import (
    blocks_table,
    bundles_table,
    certificates_table,
    legs_table,
    proofs_table,
    reorgs_table,
    resources_table,
    settlements_table,
    stalls_table,
    verdicts_table,
)
from coordinator.launch import RunningTestnet
from coordinator.record import FORMAT
from coordinator.spec.testnet import AGGLAYER_NAME, SEQUENCER_NAME
from coordinator.stages import atomic_invariants, invariants
from coordinator.stages.agglayer_account import AgglayerFacts, agglayer_account, reorg_depths
from coordinator.stages.backend_facts import backend_facts
from coordinator.stages.bond_claims import claim_bonds
from coordinator.stages.costs import cost_documents, read_status
from coordinator.stages.divergence_account import divergence_document
from coordinator.stages.engine_bound import recoveries_per_bundle
from coordinator.stages.link_account import link_documents
from coordinator.stages.load import LoadDriver, generator_health, sent_bundles
from coordinator.stages.machine import describe_machine, describe_versions, source_commit
from coordinator.stages.run_state import RunState
from coordinator.stages.sequenced_log import copy_log, read_log
from coordinator.stages.value import (
    Books,
    count_value,
    nothing_of_aborted,
    ranges_contiguous,
    read_books,
    uncounted_tokens,
    value_conserved,
)
from coordinator.stages.verdict_log import VerdictLog, copy_verdicts, read_verdicts
from coordinator.workload.base import BundleShape
from nodes.model.errors import TestbedError
from nodes.model.ids import HASH_BYTES, NOTICE_ROLLUP_ID, RollupId
from nodes.model.json_form import to_json
from nodes.sequencer.backends import BACKENDS
from nodes.telemetry.events import LinkSampled

_NS_PER_S = 1_000_000_000
_ASKED_OF_THE_TESTNET = frozenset(
    ("firm_never_changed", "bundle_order_equal", "verdicts_agree", "value_conserved", "ranges_contiguous")
)
"""Invariants for which logs and chains are read at the end."""


async def write_run(state: RunState, driver: LoadDriver, running: RunningTestnet) -> None:
    """Write everything but the report. The testnet still runs: its logs are copied from it, its chains are read."""
    bond = await _claim_bonds(state, driver, running)
    books = await _read_books(state, running)
    log_problem, head = await _copy_log(state, running)
    verdict_problem = await _copy_verdicts(state, running, up_to=head)
    sequencer = await _sequencer_facts(state, running)
    gathered = _Gathered(
        traces=dict(driver.collector.traces),
        offsets_ns=_offsets_ns(state, running),
        books=books,
        bond=bond,
        log_problem=log_problem,
        verdict_problem=verdict_problem,
        sequencer=sequencer,
    )
    writing = asyncio.get_running_loop().run_in_executor(None, _write, state, driver, running, gathered)
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        # The thread goes on writing in any case; nobody else may write the same files meanwhile.
        await asyncio.wait([writing])
        raise


async def write_broken_run(state: RunState, driver: LoadDriver, running: RunningTestnet) -> None:
    """Write what is known of a load whose testnet is gone: nothing can be asked any more.

    What had been written in full before it broke stays, and only says that it broke.
    """
    directory, broken = state.directory, state.broken
    assert broken is not None
    if directory.run_json.exists():
        directory.write_run(directory.read_run() | state.ending())
        return
    gathered = _Gathered(
        traces=dict(driver.collector.traces),
        offsets_ns=_offsets_ns(state, running),
        books=None,
        bond=None,
        log_problem=broken.reason,
        verdict_problem=broken.reason,
        sequencer=_configured_sequencer(state),
    )
    await asyncio.to_thread(_write, state, driver, running, gathered)


def _offsets_ns(state: RunState, running: RunningTestnet) -> dict[str, int]:
    """By node."""
    return {
        node.name: state.offsets[host.name].offset_ns
        for host in running.hosts
        for node in host.nodes
        if host.name in state.offsets
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gathered:
    """What was fetched from the running testnet."""

    traces: Mapping[str, NodeTrace]
    offsets_ns: Mapping[str, int]
    books: Books | None
    bond: Mapping[str, Any] | None
    """None where no builder promises anything, or it could not be asked."""
    log_problem: str
    verdict_problem: str
    sequencer: Mapping[str, Any]
    """Keys of run.json."""


async def _copy_log(state: RunState, running: RunningTestnet) -> tuple[str, int]:
    """What went wrong, empty for nothing, and the height of the log's head."""
    rollup_ids = [rollup.params.rollup_id for rollup in state.testnet.rollups]
    if state.testnet.uses_agglayer:
        rollup_ids.append(NOTICE_ROLLUP_ID)
    try:
        return "", await copy_log(running.sequencer_address, rollup_ids, state.directory.sequenced_log)
    except (TestbedError, TimeoutError) as error:
        state.problems.append(f"the sequenced log could not be copied: {error}")
        return str(error) or "the sequencer did not serve its log in time", 0


async def _copy_verdicts(state: RunState, running: RunningTestnet, *, up_to: int) -> str:
    if not state.testnet.has_verdicts:
        return ""
    try:
        reached = await copy_verdicts(running.agglayer_address, state.directory.verdict_log, up_to=up_to)
    except TestbedError as error:
        problem = str(error)
    else:
        problem = "" if reached >= up_to else f"the last verdict is of height {reached}, the log ends at {up_to}"
    if problem:
        state.problems.append(f"the verdicts could not be copied whole: {problem}")
    return problem


async def _claim_bonds(state: RunState, driver: LoadDriver, running: RunningTestnet) -> Mapping[str, Any] | None:
    """Have the users of split bundles paid from the builder's bond."""
    layer = state.testnet.agglayer
    if layer is None or layer.builder is None or not layer.builder.promise_wei:
        return None
    traces = driver.collector.traces
    sent = sent_bundles(driver.finished, legs=driver.legs)
    legs = leg_fates(sent, [traces[rollup.name] for rollup in state.testnet.rollups], {})
    fates = bundle_fates(sent, legs, traces[SEQUENCER_NAME], offset_ns=0)
    split = np.flatnonzero(fates.outcome == OUTCOMES.index("partly")).tolist()
    partly = [sent.bundle_hashes[HASH_BYTES * at : HASH_BYTES * (at + 1)] for at in split]
    load_s = max(1, state.load_end_ns - state.load_start_ns) / _NS_PER_S
    try:
        wait_s = state.scenario.load.drain_timeout_s
        return await claim_bonds(running, partly, load_s=load_s, wait_s=wait_s, all_settled=driver.all_settled)
    except TestbedError as error:
        state.problems.append(f"the builder's bond could not be claimed: {error}")
        return None


async def _read_books(state: RunState, running: RunningTestnet) -> Books | None:
    if not state.testnet.uses_agglayer:
        return None
    try:
        return await read_books(running)
    except TestbedError as error:
        state.problems.append(f"the chains could not be read at the end: {error}")
        return None


async def _sequencer_facts(state: RunState, running: RunningTestnet) -> dict[str, Any]:
    """What run.json says of the sequencer: the sizes of its blocks, and what its order has cost."""
    try:
        status = await read_status(running.sequencer_address)
    except TestbedError as error:
        # The sequencer is gone for good; what it was configured with is known all the same.
        state.problems.append(f"the sequencer could not be asked at the end: {error}")
        return _configured_sequencer(state)
    return {
        "block_interval_ms": status.block_interval_ms,
        "block_bytes_max": status.block_bytes_max,
        **cost_documents(state.costs_before, status.costs),
    }


def _configured_sequencer(state: RunState) -> dict[str, Any]:
    config = BACKENDS[state.testnet.backend].configure(state.testnet.backend_options)
    return {name: int(getattr(config, name, 0)) for name in ("block_interval_ms", "block_bytes_max")}


def _links_of_clients(state: RunState, running: RunningTestnet) -> list[LinkSampled]:
    try:
        return running.link_samples()
    except TestbedError as error:
        state.problems.append(f"the links of users could not be read: {error}")
        return []


def _write(state: RunState, driver: LoadDriver, running: RunningTestnet, gathered: _Gathered) -> None:
    traces, offsets_ns = gathered.traces, gathered.offsets_ns
    names = [rollup.name for rollup in state.testnet.rollups]
    sent = sent_bundles(driver.finished, legs=driver.legs)
    legs = leg_fates(sent, [traces[name] for name in names], offsets_ns)
    sequencer = traces[SEQUENCER_NAME]
    fates = bundle_fates(sent, legs, sequencer, offset_ns=offsets_ns.get(SEQUENCER_NAME, 0))
    primaries = [traces[name] for name in names]
    lives = certificate_lives(traces.values(), traces.values(), offsets_ns)
    stages = bundle_stages(
        sent,
        fates,
        primaries,
        lives,
        mints=driver.shape.mints,
        has_verdicts=state.testnet.has_verdicts,
        settles=state.testnet.agglayer is not None and state.testnet.agglayer.settle,
        offsets_ns=offsets_ns,
    )
    directory = state.directory
    directory.write_table("bundles", bundles_table(sent, fates, stages))
    directory.write_table("legs", legs_table(sent, legs, names))
    directory.write_table("blocks", blocks_table(traces.values(), offsets_ns))
    directory.write_table("resources", resources_table(traces.values(), offsets_ns))
    directory.write_table("stalls", stalls_table(traces.values(), offsets_ns))
    directory.write_table("reorgs", reorgs_table(traces.values(), offsets_ns))
    layer = traces.get(AGGLAYER_NAME, NodeTrace(AGGLAYER_NAME))
    layer_offset_ns = offsets_ns.get(AGGLAYER_NAME, 0)
    directory.write_table("verdicts", verdicts_table(layer, layer_offset_ns))
    directory.write_table("proofs", proofs_table(layer, layer_offset_ns))
    directory.write_table("settlements", settlements_table(layer, layer_offset_ns))
    directory.write_table("certificates", certificates_table(lives, names))
    document = _about(state, running, gathered.sequencer, driver.shape)
    document |= _measured(state, driver, running, sent)
    document["reorgs"] = reorg_depths(primaries)
    joined = _Joined(sent=sent, fates=fates, stages=stages, lives=lives, primaries=primaries)
    verdicts = _invariants(state, gathered, joined)
    if state.testnet.uses_agglayer:
        verdicts |= _agglayer_invariants(state, gathered, joined)
        document |= _agglayer_part(state, driver, running, gathered, joined)
    watched = [traces[name] for name in state.testnet.divergence_rollups]
    document |= divergence_document(state.testnet.divergence, watched, gathered.offsets_ns)
    document |= link_documents(state.testnet.wide_area, traces.values(), _links_of_clients(state, running))
    if gathered.bond is not None:
        document["bond"] = gathered.bond
    if state.broken is not None:
        # What was not looked at neither holds nor fails.
        verdicts = {name: verdict for name, verdict in verdicts.items() if name not in _ASKED_OF_THE_TESTNET}
    document["invariants"] = {name: verdict.to_json() for name, verdict in verdicts.items()}
    document["recovery"] = {
        trace.node: [
            {
                "at_ns": at_ns + offsets_ns.get(trace.node, 0),
                "checkpoint_height": event.checkpoint_height,
                "recovered_height": event.recovered_height,
                "duration_s": event.duration_ns / _NS_PER_S,
            }
            for at_ns, event in trace.recoveries
        ]
        for trace in traces.values()
        if trace.recoveries
    }
    directory.write_run(document)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Joined:
    """What the traces say of bundles and certificates."""

    sent: SentBundles
    fates: BundleFates
    stages: BundleStages
    lives: Sequence[CertificateLife]
    primaries: Sequence[NodeTrace]


def _agglayer_part(
    state: RunState, driver: LoadDriver, running: RunningTestnet, gathered: _Gathered, joined: _Joined
) -> dict[str, Any]:
    assert state.testnet.agglayer is not None
    facts = AgglayerFacts(
        testnet=state.testnet,
        traces=gathered.traces,
        offsets_ns=gathered.offsets_ns,
        lives=joined.lives,
        stages=joined.stages,
        fates=joined.fates,
        books=gathered.books,
        counts=count_value(gathered.books) if gathered.books is not None else (),
        settled_in_time=driver.all_settled if state.testnet.agglayer.settle else None,
        refusals=[reason for phase in driver.finished for reason in phase.dispatcher.refusals.values()],
        attesters_separate=running.attesters_separate,
    )
    return agglayer_account(facts)


def _about(
    state: RunState, running: RunningTestnet, sequencer: Mapping[str, Any], shape: BundleShape
) -> dict[str, Any]:
    """What was run, and on what."""
    scenario, testnet, clock = state.scenario, state.testnet, state.clock
    backend = BACKENDS[testnet.backend]
    expected = backend.expected(backend.configure(testnet.backend_options))
    return {
        "format": FORMAT,
        "command": state.options.command,
        "scenario": scenario.name,
        "description": scenario.about.description,
        "backend": testnet.backend,
        "launcher": running.launcher,
        "seed": scenario.seed,
        "atomicity": testnet.atomicity,
        "rollups": len(testnet.rollups),
        "replicas": testnet.replicas,
        "legs_per_bundle": len(shape.legs),
        "workload": scenario.workload.kind,
        "mints_per_bundle": len(shape.mints),
        "load_kind": scenario.load.kind,
        "p99_bound_ms": scenario.load.p99_bound_ms,
        **sequencer,
        **backend_facts(backend, testnet.backend_options),
        "expected": to_json(dict(expected)),
        "promises": {level: getattr(backend, level) for level in ("soft", "firm", "final")},
        "trust": [to_json(row) for row in backend.trust],
        "notes": list(scenario.notes),
        "started_wall_ns": state.started_wall_ns,
        "wall_zero_ns": clock.wall_ns() - clock.monotonic_ns(),
        "commit": source_commit(),
        "versions": describe_versions(),
        "machine": describe_machine(),
        "hosts": [
            {"name": host.name, "node_names": [node.name for node in host.nodes], "pid": host.pid, "host": host.host}
            for host in running.hosts
        ],
        "nodes": [
            {"name": node.name, "kind": node.kind, "host": host.name} for host in running.hosts for node in host.nodes
        ],
        "ready_s": running.ready_s,
        "accounts_per_rollup": testnet.accounts_per_rollup,
        "verify_proofs": testnet.verify_proofs,
        "tracing": True,
    }


def _measured(state: RunState, driver: LoadDriver, running: RunningTestnet, sent: SentBundles) -> dict[str, Any]:
    """When the load was, how it was made, and what limited it."""
    load = state.scenario.load
    cut = load.kind != "sweep"
    health = generator_health(driver.finished)
    index = {rollup.name: at for at, rollup in enumerate(state.testnet.rollups)}
    owner = {
        name: index[rollup.name] for rollup in state.testnet.rollups for name in state.testnet.replica_names(rollup)
    }
    processes = [[owner[node.name] for node in host.nodes if node.name in owner] for host in running.hosts]
    bound = None
    if state.bound is not None:
        bound = state.bound.as_deployed(
            legs=driver.legs,
            replicas=state.testnet.replicas,
            recoveries_per_bundle=recoveries_per_bundle(sent.rollups, processes),
        )
    return {
        "load_start_ns": state.load_start_ns,
        "load_end_ns": state.load_end_ns,
        "measure_from_ns": state.load_start_ns + round(load.warmup_s * _NS_PER_S) * cut,
        "measure_to_ns": state.load_end_ns - round(load.cooldown_s * _NS_PER_S) * cut,
        "drained_ns": state.drained_ns,
        **state.ending(),
        "phases": [to_json(phase) for phase in state.phases],
        "clock_offsets": {name: to_json(offset) for name, offset in state.offsets.items()},
        "engine_bound": bound,
        "generator": {
            "cpu_s": driver.cpu_s,
            "presign_s": driver.presign_s,
            "lanes": state.testnet.lanes,
            "retired_lanes": len(driver.retired),
            "reconnects": driver.reconnects,
            "last_break": driver.last_break,
            "replays": driver.replays,
            "overloads": sum(phase.dispatcher.overloads for phase in driver.finished),
            **health,
        },
        "faults": [to_json(record) for record in state.faults],
        "problems": state.problems,
        "bounded_by_hint": _bounded_by(health),
    }


def _bounded_by(health: Mapping[str, float | int]) -> str:
    """Only what the generator itself knows; the report looks at cores and blocks."""
    late = health["late_p99_ms"] > MAX_LATE_P99_MS or health["missed_share"] > MAX_MISSED_SHARE
    return "generator" if late else ""


MAX_LATE_P99_MS = 50.0
MAX_MISSED_SHARE = 0.01
"""Beyond either the generator did not offer what it says, and the run is invalid."""


def _groups(state: RunState, traces: Mapping[str, NodeTrace]) -> dict[str, list[NodeTrace]]:
    return {
        rollup.name: [traces[name] for name in state.testnet.replica_names(rollup)] for rollup in state.testnet.rollups
    }


def _invariants(state: RunState, gathered: _Gathered, joined: _Joined) -> dict[str, invariants.Verdict]:
    traces, has_verdicts = gathered.traces, state.testnet.has_verdicts
    groups = _groups(state, traces)
    verdicts = {
        "no_unbundled": invariants.no_unbundled(joined.fates),
        "every_accepted_resolved": invariants.every_accepted_resolved(joined.fates),
        "accounts_add_up": invariants.accounts_add_up(joined.sent, joined.fates),
        "replicas_agree": invariants.replicas_agree(groups, only_resolved=has_verdicts),
    }
    if gathered.log_problem:
        unread = invariants.Verdict(ok=False, detail=f"the sequenced log could not be copied: {gathered.log_problem}")
        verdicts |= {"firm_never_changed": unread, "bundle_order_equal": unread}
    else:
        log = list(read_log(state.directory.sequenced_log))
        # With verdicts a firm height may be executed again without what was struck; its order never changes.
        rollups = [] if has_verdicts else [trace for group in groups.values() for trace in group]
        verdicts["firm_never_changed"] = invariants.firm_never_changed(traces[SEQUENCER_NAME], rollups, log)
        verdicts["bundle_order_equal"] = invariants.bundle_order_equal(log)
    return verdicts


def _agglayer_invariants(state: RunState, gathered: _Gathered, joined: _Joined) -> dict[str, invariants.Verdict]:
    """What the mode promises, and what is only counted where it promises nothing."""
    layer, books = state.testnet.agglayer, gathered.books
    assert layer is not None
    verdicts: dict[str, invariants.Verdict] = {}
    if state.testnet.has_verdicts:
        assert joined.stages.atomic_safe is not None
        log = _verdict_log(state, gathered)
        groups = _groups(state, gathered.traces)
        verdicts["no_partly_at_atomic_safe"] = atomic_invariants.no_partly(joined.fates, joined.stages.atomic_safe >= 0)
        verdicts["verdicts_agree"] = atomic_invariants.verdicts_agree(groups, log)
        if gathered.verdict_problem:
            verdicts["verdicts_agree"] = invariants.Verdict(ok=False, detail=gathered.verdict_problem)
    if books is None:
        unread = invariants.Verdict(ok=False, detail="the chains could not be read at the end of the run")
        return verdicts | {"value_conserved": unread} | ({"ranges_contiguous": unread} if layer.settle else {})
    struck = atomic_invariants.aborted_legs(joined.sent, joined.fates)
    unsound = [name for name, lie in layer.liars.items() if lie == "state"]
    verdicts["value_conserved"] = value_conserved(
        count_value(books),
        is_promised=state.testnet.has_verdicts,
        liars=unsound,
        uncounted=uncounted_tokens(books),
    )
    if state.testnet.has_verdicts:
        verdicts["no_settled_abort"] = atomic_invariants.both(
            nothing_of_aborted(books, struck),
            atomic_invariants.no_import_of_aborted(joined.sent, joined.fates, joined.lives),
        )
    if not layer.settle:
        return verdicts
    verdicts["ranges_contiguous"] = ranges_contiguous(books.ranges)
    ranges = {(item.network_id, item.range.last_height): item.range.last_block_hash for item in books.ranges}
    verdicts["settled_blocks_stand"] = atomic_invariants.settled_blocks_stand(joined.lives, ranges, joined.primaries)
    return verdicts


def _verdict_log(state: RunState, gathered: _Gathered) -> VerdictLog | None:
    """The copied verdicts, evaluated again; None where there is no whole copy of both logs."""
    layer = state.testnet.agglayer
    assert layer is not None
    if gathered.log_problem or gathered.verdict_problem:
        return None
    touched: dict[int, Sequence[RollupId]] = {
        block.header.height: [rollup for rollup in block.contents if rollup != NOTICE_ROLLUP_ID]
        for block in read_log(state.directory.sequenced_log)
    }
    return VerdictLog.check(
        read_verdicts(state.directory.verdict_log), touched, layer.params,
        chain_id=state.testnet.params.sequencer_chain_id,
    )  # fmt: skip
