"""Signing ahead: what is made is what derivation accepts, whatever the number of processes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from coordinator.spec.keys import dev_account
from coordinator.spec.scenario import WorkloadTable
from coordinator.workload.base import Surroundings
from coordinator.workload.phase import Phase, Planner
from coordinator.workload.presign import IN_PROCESS_BUNDLES, Signers, presigner
from coordinator.workload.routes import Routing
from coordinator.workload.table import build_workload
from nodes.model.execution import Transaction
from nodes.rules.bundle import bundle_hash
from nodes.rules.hashes import keccak256, sha256
from nodes.rules.payload import decode
from nodes.wire.bundles import bundle_from_bytes
from tests.support.patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
ACCOUNTS = [dev_account(1, "lane", index) for index in range(4)]
SIGNERS = Signers(chain_ids=(7001, 7002, 7003), secrets=(tuple(account.key for account in ACCOUNTS),) * 3)


def phase(count: int) -> Phase:
    surroundings = Surroundings(accounts=[[account.address for account in ACCOUNTS]] * 3, pool_reserves=(1, 1))
    workload = build_workload(WorkloadTable(kind="conflict"), surroundings, source="test")
    planner = Planner(routing=Routing(rollups=3, legs=2), lanes=4, workload=workload, rng=np.random.default_rng(3))
    return planner.plan(np.arange(count, dtype=np.int64))


def test_every_leg_is_a_transaction_of_its_lane_with_its_bundles_trailer() -> None:
    planned = phase(40)
    with presigner(SIGNERS, workers=1) as signing:
        signed = signing.sign(planned.unsigned)
    unsigned = planned.unsigned
    for at, submission in enumerate(signed.submissions):
        bundle = bundle_from_bytes(submission)
        named = bundle_hash(version=bundle.version, expiry=0, leg_hashes=[leg.leg_hash for leg in bundle.legs])
        assert signed.bundle_hashes[32 * at : 32 * at + 32] == named
        assert signed.submission_hashes[32 * at : 32 * at + 32] == sha256(submission)
        for index, leg in enumerate(bundle.legs):
            transaction = decode(leg.payload, int.from_bytes(leg.rollup_id, "big"))
            assert isinstance(transaction, Transaction)
            assert transaction.chain_id == SIGNERS.chain_ids[unsigned.rollups[at, index]]
            assert transaction.sender == ACCOUNTS[unsigned.lanes[at]].address
            assert transaction.nonce == unsigned.nonces[at, index]
            assert transaction.leg_hash == leg.leg_hash
            assert transaction.trailer == (named, index, 2)
            place = 32 * (2 * at + index)
            assert signed.tx_hashes[place : place + 32] == keccak256(leg.payload)


@pytest.mark.slow
def test_two_processes_sign_the_same_bytes_in_the_same_order() -> None:
    planned = phase(IN_PROCESS_BUNDLES + 500)
    told: list[int] = []
    with presigner(SIGNERS, workers=1) as alone, presigner(SIGNERS, workers=2) as together:
        assert together.sign(planned.unsigned, told.append) == alone.sign(planned.unsigned)
    assert told == sorted(told)
    assert told[-1] == len(planned)


HOLDING = """
import os, sys
from coordinator.workload.presign import Signers, presigner
with presigner(Signers(chain_ids=(), secrets=()), workers=2) as signing:
    signing._pool.submit(os.getpid).result()
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_workers_end_with_a_process_that_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        workers = psutil.Process(process.pid).children(recursive=True)
        assert workers
        process.kill()
    _, alive = psutil.wait_procs(workers, timeout=PATIENCE_S)
    for worker in alive:
        worker.kill()
    assert not alive
