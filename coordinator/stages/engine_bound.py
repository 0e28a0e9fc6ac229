"""What the machine's engines could carry at most, measured in the same run: the same kind of transactions, fed bare.

As many engines as cores (or rollups, if fewer) build blocks side by side with nothing else running. Two bounds follow:
*bare*, what the engines did together by the wall clock, and *with recovery*, which adds the signature recoveries that
the bundle rule demands: cores / (legs x us_per_leg + recoveries x recover_us).
"""

import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from coincurve import PrivateKey
from numpy.typing import NDArray

from coordinator.spec.scenario import Scenario
from coordinator.spec.testnet import ResolvedTestnet
from coordinator.stages.bare_genesis import funded_genesis
from coordinator.stages.load_setup import load_setup
from coordinator.workload.base import Funding
from coordinator.workload.presign import Presigned, presigner
from nodes.evm.anvil import find_anvil
from nodes.evm.engine import AnvilEngine
from nodes.model.execution import DropReason, Transaction
from nodes.rules.hashes import keccak256
from nodes.rules.payload import decode, recover
from nodes.telemetry.resources import usable_cores
from nodes.wire.bundles import bundle_from_bytes

LEGS_PER_ENGINE = 8_000
"""About a second and a half of transfers."""
LEGS_PER_BLOCK = 150
"""What a 100 ms block of a rollup holds at 1,500 legs per second."""
WARM_UP_BLOCKS = 4
RECOVERIES = 2_000
CALIBRATION_STREAM = 1
_US_PER_S = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineBound:
    """The measurement, before the layout of a run is known."""

    us_per_leg: float
    """CPU microseconds of the engine process per transaction."""
    legs_per_s: float
    """All engines together, by the wall clock."""
    recover_us: float
    """CPU microseconds of one signature recovery."""
    cores: int
    engines: int

    def as_deployed(self, *, legs: int, replicas: int, recoveries_per_bundle: float) -> dict[str, Any]:
        """The two bounds for bundles of `legs` legs, as run.json has them."""
        us = legs * replicas * self.us_per_leg + recoveries_per_bundle * self.recover_us
        return {
            "us_per_leg": self.us_per_leg,
            "bundles_per_s_bare": self.legs_per_s / (legs * replicas),
            "recover_us": self.recover_us,
            "recoveries_per_bundle": recoveries_per_bundle,
            "bundles_per_s_with_recovery": self.cores * _US_PER_S / us,
            "cores": self.cores,
            "engines": self.engines,
            "legs_per_bundle": legs,
            "replicas": replicas,
            "formula": (
                f"{self.cores} cores / ({legs} legs x {replicas} replicas x {self.us_per_leg:.1f} us "
                f"+ {recoveries_per_bundle:.2f} recoveries x {self.recover_us:.1f} us)"
            ),
        }


def recoveries_per_bundle(routes: NDArray[np.int16], processes: Sequence[Sequence[int]]) -> float:
    """Signature recoveries per bundle: every process recovers each leg of a bundle once, if it has one of its rollups.

    `processes` lists the rollup indexes in each process; nodes of one process share what they recovered.
    """
    if not len(routes):
        return 0.0
    total = 0.0
    for rollups in processes:
        hosted = np.isin(routes, np.asarray(sorted(set(rollups)), dtype=routes.dtype))
        total += float(hosted.any(axis=1).mean())
    return total * int(routes.shape[1])


async def measure_engine_bound(
    scenario: Scenario, testnet: ResolvedTestnet, *, workers: int, engine_path: str = ""
) -> EngineBound:
    """Measure; takes about four seconds. `engine_path`: as for `find_anvil`. Raises EngineFailure, MissingTool."""
    cores = usable_cores()
    engines = min(cores, len(testnet.rollups))
    # At least as many as a bundle spans.
    rollups = max(engines, min(scenario.workload.legs, len(testnet.rollups)))
    lists, funding = await asyncio.to_thread(_transactions, scenario, testnet, rollups, workers)
    binary = await asyncio.to_thread(find_anvil, engine_path)
    with tempfile.TemporaryDirectory(prefix="lockstep-bound-") as folder:
        started: list[AnvilEngine] = []
        try:
            for index in range(engines):
                rollup = funded_genesis(testnet, testnet.rollups[index], funding)
                started.append(
                    await AnvilEngine.start(
                        binary, rollup.genesis, rollup.params, Path(folder) / rollup.name, testnet.rewind_window
                    )
                )
            genesis_time_s = testnet.params.rollups[0].genesis_time_s
            for engine, transactions in zip(started, lists, strict=False):
                await _build(engine, transactions[: WARM_UP_BLOCKS * LEGS_PER_BLOCK], genesis_time_s)
            cpu_s = [_cpu_s(engine.pid) for engine in started]
            begin_s = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for engine, transactions in zip(started, lists, strict=False):
                    group.create_task(_build(engine, transactions[WARM_UP_BLOCKS * LEGS_PER_BLOCK :], genesis_time_s))
            wall_s = time.perf_counter() - begin_s
            used_s = sum(_cpu_s(engine.pid) - before for engine, before in zip(started, cpu_s, strict=True))
        finally:
            for engine in started:
                await engine.stop()
    legs = sum(len(transactions) - WARM_UP_BLOCKS * LEGS_PER_BLOCK for transactions in lists[:engines])
    return EngineBound(
        us_per_leg=used_s / legs * _US_PER_S,
        legs_per_s=legs / wall_s,
        recover_us=_recover_us(),
        cores=cores,
        engines=engines,
    )


def _transactions(
    scenario: Scenario, testnet: ResolvedTestnet, rollups: int, workers: int
) -> tuple[list[list[tuple[bytes, Transaction]]], Funding | None]:
    """Decoded legs for each of the first `rollups` rollups, in order, of a load of the scenario's kind; its funding.

    As many for each: an engine that ended early would make the bound look lower than it is.
    """
    scenario = replace(scenario, workload=replace(scenario.workload, popularity="uniform"))
    setup = load_setup(scenario, testnet, rollups=rollups, stream=CALIBRATION_STREAM)
    bundles = LEGS_PER_ENGINE * rollups // setup.legs
    # Spread like the load itself, so that a workload that looks at times finds them as usual.
    gap_ns = round(1e9 / max(1.0, scenario.load.rate_per_s))
    phase = setup.planner.plan(np.arange(bundles, dtype=np.int64) * gap_ns)
    with presigner(setup.signers, workers=workers) as signing:
        signed = signing.sign(phase.unsigned)
    lists = _by_rollup(signed, {rollup.params.rollup_id: at for at, rollup in enumerate(testnet.rollups[:rollups])})
    return lists, setup.funding


def _by_rollup(signed: Presigned, index: Mapping[bytes, int]) -> list[list[tuple[bytes, Transaction]]]:
    lists: list[list[tuple[bytes, Transaction]]] = [[] for _ in index]
    for submission in signed.submissions:
        for leg in bundle_from_bytes(submission).legs:
            transaction = decode(leg.payload, int.from_bytes(leg.rollup_id, "big"))
            assert not isinstance(transaction, DropReason), "the load signs what derivation accepts"
            lists[index[leg.rollup_id]].append((leg.payload, transaction))
    return lists


async def _build(engine: AnvilEngine, transactions: Sequence[tuple[bytes, Transaction]], timestamp_s: int) -> None:
    for begin in range(0, len(transactions), LEGS_PER_BLOCK):
        await engine.build_block(transactions[begin : begin + LEGS_PER_BLOCK], timestamp_s=timestamp_s)


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _recover_us() -> float:
    """CPU time of one recovery, over many."""
    key = PrivateKey(keccak256(b"lockstep recovery timing"))
    digest = keccak256(b"digest")
    signature = key.sign_recoverable(digest, hasher=None)
    begin_s = time.process_time()
    for _ in range(RECOVERIES):
        recover(digest=digest, signature=signature[:64], parity=signature[64])
    return (time.process_time() - begin_s) / RECOVERIES * _US_PER_S
