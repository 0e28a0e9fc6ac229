"""The run directory of a finished (or interrupted) load: join the traces, check the invariants, write every file."""

import asyncio
from collections.abc import Mapping
from typing import Any

from coordinator.collect.join import BundleFates, LegFates, SentBundles, bundle_fates, leg_fates
from coordinator.collect.node_trace import NodeTrace
from coordinator.collect.tables import blocks_table, bundles_table, legs_table, resources_table, stalls_table
from coordinator.launch import RunningTestnet
from coordinator.record import FORMAT
from coordinator.spec.testnet import SEQUENCER_NAME
from coordinator.stages import invariants
from coordinator.stages.engine_bound import recoveries_per_bundle
from coordinator.stages.load import LoadDriver, generator_health, sent_bundles
from coordinator.stages.machine import describe_machine, describe_versions, source_commit
from coordinator.stages.run_state import RunState
from coordinator.stages.sequenced_log import copy_log, read_log
from nodes.model.errors import TestbedError
from nodes.model.json_form import to_json
from nodes.sequencer.backends import BACKENDS
from nodes.wire.sequencer import SequencerClient

_NS_PER_S = 1_000_000_000


async def write_run(state: RunState, driver: LoadDriver, running: RunningTestnet) -> None:
    """Write everything but the report. The testnet still runs: its log is copied from it."""
    log_problem = await _copy_log(state, running)
    interval_ms = await _block_interval_ms(state, running)
    offsets_ns = {
        node.name: state.offsets[host.name].offset_ns
        for host in running.hosts
        for node in host.nodes
        if host.name in state.offsets
    }
    traces = driver.collector.traces
    await asyncio.to_thread(_write, state, driver, running, dict(traces), offsets_ns, log_problem, interval_ms)


async def _copy_log(state: RunState, running: RunningTestnet) -> str:
    try:
        await copy_log(
            running.sequencer_address,
            [rollup.params.rollup_id for rollup in state.testnet.rollups],
            state.directory.sequenced_log,
        )
    except (TestbedError, TimeoutError) as error:
        state.problems.append(f"the sequenced log could not be copied: {error}")
        return str(error) or "the sequencer did not serve its log in time"
    return ""


async def _block_interval_ms(state: RunState, running: RunningTestnet) -> int:
    try:
        async with SequencerClient(running.sequencer_address) as client:
            return (await client.status()).block_interval_ms
    except TestbedError:
        # The sequencer is gone for good; what it was configured with is known all the same.
        config = BACKENDS[state.testnet.backend].configure(state.testnet.backend_options)
        return int(getattr(config, "block_interval_ms", 0))


def _write(
    state: RunState,
    driver: LoadDriver,
    running: RunningTestnet,
    traces: Mapping[str, NodeTrace],
    offsets_ns: Mapping[str, int],
    log_problem: str,
    interval_ms: int,
) -> None:
    names = [rollup.name for rollup in state.testnet.rollups]
    sent = sent_bundles(driver.finished, legs=driver.legs)
    legs = leg_fates(sent, [traces[name] for name in names], offsets_ns)
    sequencer = traces[SEQUENCER_NAME]
    fates = bundle_fates(sent, legs, sequencer, offset_ns=offsets_ns.get(SEQUENCER_NAME, 0))
    directory = state.directory
    directory.write_table("bundles", bundles_table(sent, fates))
    directory.write_table("legs", legs_table(sent, legs, names))
    directory.write_table("blocks", blocks_table(traces.values(), offsets_ns))
    directory.write_table("resources", resources_table(traces.values(), offsets_ns))
    directory.write_table("stalls", stalls_table(traces.values(), offsets_ns))
    document = _about(state, running, interval_ms)
    document |= _measured(state, driver, running, sent)
    document["invariants"] = _invariants(state, traces, sent, legs, fates, log_problem)
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


def _about(state: RunState, running: RunningTestnet, interval_ms: int) -> dict[str, Any]:
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
        "rollups": len(testnet.rollups),
        "replicas": testnet.replicas,
        "legs_per_bundle": scenario.workload.legs,
        "workload": scenario.workload.kind,
        "load_kind": scenario.load.kind,
        "p99_bound_ms": scenario.load.p99_bound_ms,
        "block_interval_ms": interval_ms,
        "expected": to_json(dict(expected)),
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
        "interrupted": state.interrupt.is_set,
        "interrupt_reason": state.interrupt.reason,
        "interrupted_ns": state.interrupted_ns,
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


def _invariants(
    state: RunState,
    traces: Mapping[str, NodeTrace],
    sent: SentBundles,
    legs: LegFates,
    fates: BundleFates,
    log_problem: str,
) -> dict[str, Any]:
    groups = {
        rollup.name: [traces[name] for name in state.testnet.replica_names(rollup)] for rollup in state.testnet.rollups
    }
    verdicts = {
        "no_unbundled": invariants.no_unbundled(fates),
        "every_accepted_resolved": invariants.every_accepted_resolved(fates),
        "accounts_add_up": invariants.accounts_add_up(sent, fates),
        "replicas_agree": invariants.replicas_agree(groups),
    }
    if log_problem:
        unread = invariants.Verdict(ok=False, detail=f"the sequenced log could not be copied: {log_problem}")
        verdicts |= {"firm_never_changed": unread, "bundle_order_equal": unread}
    else:
        log = list(read_log(state.directory.sequenced_log))
        rollups = [trace for group in groups.values() for trace in group]
        verdicts["firm_never_changed"] = invariants.firm_never_changed(traces[SEQUENCER_NAME], rollups, log)
        verdicts["bundle_order_equal"] = invariants.bundle_order_equal(log)
    return {name: verdict.to_json() for name, verdict in verdicts.items()}
