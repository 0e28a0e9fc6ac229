"""Signing a phase's bundles before its clock starts, in several processes when there are many.

What comes out is ready to send: the exact bytes of every submission, and the hashes by which its fate is recognised
later. The work is cut into chunks of consecutive bundles; the result does not depend on how it was cut.
"""

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from coincurve import PrivateKey
from numpy.typing import NDArray

from coordinator.workload.base import Calls, LegCall
from nodes.model.bundle import BUNDLE_VERSION, Bundle, Leg, Trailer
from nodes.model.ids import Address, RollupId, rollup_id_of
from nodes.rules.bundle import bundle_hash
from nodes.rules.hashes import keccak256, sha256
from nodes.rules.payload import UnsignedTransaction, address_of, sign
from nodes.wire.bundles import bundle_to_bytes

CHUNK = 1_000
"""Bundles signed per task: about 0.1 s."""
IN_PROCESS_BUNDLES = 3_000
"""Up to here one process is faster than starting more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signers:
    """Who signs: the chain and the account keys of every rollup. Test keys; they guard nothing of value."""

    chain_ids: tuple[int, ...]
    secrets: tuple[tuple[bytes, ...], ...]
    """32-byte private keys by rollup and account (`coordinator.workload.phase`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsigned:
    """What is to be signed. Rows are bundles in the order they are due."""

    lanes: NDArray[np.int32]
    accounts: NDArray[np.int32]
    """(bundles, legs): who signs each leg."""
    rollups: NDArray[np.int16]
    """(bundles, legs)."""
    nonces: NDArray[np.int64]
    """(bundles, legs)."""
    calls: Calls


@dataclass(frozen=True, slots=True, kw_only=True)
class Presigned:
    """Signed bundles, in the order of `Unsigned`."""

    submissions: list[bytes]
    """What is sent: one serialized bundle each."""
    bundle_hashes: bytes
    """32 bytes per bundle."""
    submission_hashes: bytes
    """32 bytes per bundle."""
    tx_hashes: bytes
    """32 bytes per leg, leg after leg."""

    def __len__(self) -> int:
        return len(self.submissions)


class Presigner:
    """Signs phases. Get it from `presigner`, which also ends its processes."""

    def __init__(self, signers: Signers, pool: ProcessPoolExecutor | None, workers: int) -> None:
        self._local = _Signing(signers)
        self._pool = pool
        self._workers = workers

    def sign(self, unsigned: Unsigned, progress: Callable[[int], None] = lambda done: None) -> Presigned:
        """Sign all bundles; `progress` is told how many are done. Blocks the caller."""
        chunks = list(_chunks(unsigned))
        done: dict[int, _Signed] = {}
        if self._pool is None or len(unsigned.lanes) <= IN_PROCESS_BUNDLES:
            for number, chunk in enumerate(chunks):
                done[number] = self._local.sign(chunk)
                progress(sum(len(part.submissions) for part in done.values()))
        else:
            self._sign_in_pool(self._pool, chunks, done, progress)
        parts = [done[number] for number in range(len(chunks))]
        return Presigned(
            submissions=[submission for part in parts for submission in part.submissions],
            bundle_hashes=b"".join([part.bundle_hashes for part in parts]),
            submission_hashes=b"".join([part.submission_hashes for part in parts]),
            tx_hashes=b"".join([part.tx_hashes for part in parts]),
        )

    def _sign_in_pool(
        self,
        pool: ProcessPoolExecutor,
        chunks: Sequence["_Chunk"],
        done: dict[int, "_Signed"],
        progress: Callable[[int], None],
    ) -> None:
        waiting = list(enumerate(chunks))[::-1]
        running: dict[Future[_Signed], int] = {}
        signed = 0
        while waiting or running:
            # Two tasks per worker keep it busy; more would only copy the load into the pool's queue.
            while waiting and len(running) < 2 * self._workers:
                number, chunk = waiting.pop()
                running[pool.submit(_sign_in_worker, chunk)] = number
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                part = future.result()
                done[running.pop(future)] = part
                signed += len(part.submissions)
                progress(signed)


@contextmanager
def presigner(signers: Signers, *, workers: int) -> Iterator[Presigner]:
    """A presigner with `workers` processes (0 or 1 = the calling process only)."""
    if workers < 2:
        yield Presigner(signers, None, 1)
        return
    # Spawned, not forked: a fork would copy the sockets and threads of a running gRPC.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(signers,)) as pool:
        yield Presigner(signers, pool, workers)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chunk:
    """Consecutive bundles as plain lists, which pickle small and are quick to walk."""

    accounts: list[list[int]]
    rollups: list[list[int]]
    nonces: list[list[int]]
    calls: list[list[int]]
    table: dict[int, LegCall]
    """Only the calls that this chunk makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signed:
    submissions: list[bytes]
    bundle_hashes: bytes
    submission_hashes: bytes
    tx_hashes: bytes


def _chunks(unsigned: Unsigned) -> Iterator[_Chunk]:
    for begin in range(0, len(unsigned.lanes), CHUNK):
        part = slice(begin, begin + CHUNK)
        index = unsigned.calls.index[part]
        yield _Chunk(
            accounts=unsigned.accounts[part].tolist(),
            rollups=unsigned.rollups[part].tolist(),
            nonces=unsigned.nonces[part].tolist(),
            calls=index.tolist(),
            table={int(at): unsigned.calls.table[at] for at in np.unique(index)},
        )


class _Signing:
    """Keys of one process, made when first needed: a key with its address costs 40 us, and few of many are used."""

    def __init__(self, signers: Signers) -> None:
        self._signers = signers
        self._rollup_ids: list[RollupId] = [rollup_id_of(chain_id) for chain_id in signers.chain_ids]
        self._keys: dict[bytes, tuple[PrivateKey, Address]] = {}

    def sign(self, chunk: _Chunk) -> _Signed:
        submissions, bundle_hashes, submission_hashes, tx_hashes = [], [], [], []
        for accounts, rollups, nonces, calls in zip(
            chunk.accounts, chunk.rollups, chunk.nonces, chunk.calls, strict=True
        ):
            unsigned = []
            for account, rollup, nonce, call in zip(accounts, rollups, nonces, calls, strict=True):
                key, sender = self._key(self._signers.secrets[rollup][account])
                unsigned.append((rollup, key, sender, self._transaction(rollup, nonce, chunk.table[call])))
            leg_hashes = [transaction.leg_hash(sender) for _, _, sender, transaction in unsigned]
            named = bundle_hash(version=BUNDLE_VERSION, expiry=0, leg_hashes=leg_hashes)
            legs = []
            for index, (rollup, key, _, transaction) in enumerate(unsigned):
                payload = sign(transaction, key, Trailer(named, index, len(unsigned)))
                tx_hashes.append(keccak256(payload))
                legs.append(Leg(rollup_id=self._rollup_ids[rollup], payload=payload, leg_hash=leg_hashes[index]))
            submission = bundle_to_bytes(Bundle(version=BUNDLE_VERSION, expiry=0, legs=tuple(legs)))
            submissions.append(submission)
            bundle_hashes.append(named)
            submission_hashes.append(sha256(submission))
        return _Signed(
            submissions=submissions,
            bundle_hashes=b"".join(bundle_hashes),
            submission_hashes=b"".join(submission_hashes),
            tx_hashes=b"".join(tx_hashes),
        )

    def _transaction(self, rollup: int, nonce: int, call: LegCall) -> UnsignedTransaction:
        return UnsignedTransaction(
            chain_id=self._signers.chain_ids[rollup],
            nonce=nonce,
            gas_limit=call.gas_limit,
            to=call.to,
            value=call.value,
            calldata=call.calldata,
        )

    def _key(self, secret: bytes) -> tuple[PrivateKey, Address]:
        known = self._keys.get(secret)
        if known is None:
            key = PrivateKey(secret)
            known = self._keys[secret] = (key, address_of(key))
        return known


_worker: _Signing | None = None
"""Of a spawned worker process; a pool gives its tasks no other place to keep what they share."""


def _start_worker(signers: Signers) -> None:
    global _worker  # noqa: PLW0603 - see _worker
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = _Signing(signers)


def _end_with_parent() -> None:
    """A pool's workers wait for tasks for ever, also when the process that would send them was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _sign_in_worker(chunk: _Chunk) -> _Signed:
    assert _worker is not None, "the pool runs its initializer first"
    return _worker.sign(chunk)
