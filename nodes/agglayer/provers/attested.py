"""Proof by attestation: a threshold of attesters has run the program and signed. Not a zero-knowledge proof.

The program is run here first, so that a certificate it refuses is known before anybody is asked, and so that every
answer is compared with statements of our own. As many attesters are asked as are needed; one more for each that is
down, slow, or signs something else.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from nodes.agglayer.provers.backend import ProverBackend, ProverContext, check_number
from nodes.evm.agglayer_contracts import MANAGER
from nodes.model.errors import ProofFailed, TestbedError, Unavailable
from nodes.model.ids import Address, hex_of
from nodes.ports import Proof, ProofProgress, ProvingItem
from nodes.rules.certificate import settlement_digest, statement_bytes
from nodes.rules.pessimistic import encode_public_values, run
from nodes.rules.program_encoding import decode_program
from nodes.rules.signing import recover_digest
from nodes.telemetry.clock import thread_cpu_ns
from nodes.telemetry.events import EvidenceFound
from nodes.telemetry.stages import StageCpu
from nodes.wire.attester import AttesterClient

KIND = "attested"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestedConfig:
    """Keys of the prover."""

    patience_ms: int = 1_000
    """An attester that has not answered after this long is slow: one more is asked beside it."""
    answer_timeout_ms: int = 60_000
    """After this long it is given up."""

    def __post_init__(self) -> None:
        check_number(key="patience_ms", value=self.patience_ms, minimum=1, maximum=3_600_000)
        check_number(key="answer_timeout_ms", value=self.answer_timeout_ms, minimum=1, maximum=3_600_000)


class AttestedProver:
    """Satisfies `nodes.agglayer.provers.backend.ProverNode`. One batch at a time."""

    def __init__(self, config: AttestedConfig, context: ProverContext, *, name: str = KIND) -> None:
        self._config = config
        self._params = context.params
        self._tracer = context.tracer
        self._name = name
        self._clients = [AttesterClient(endpoint) for endpoint in context.attester_endpoints]
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prover")
        self._stages = StageCpu("program")

    @property
    def name(self) -> str:
        """Its line of the table."""
        return self._name

    @property
    def tree_hashes(self) -> tuple[str, ...]:
        """The program runs natively over Keccak."""
        return ()

    @property
    def stage_cpu_ns(self) -> Mapping[str, int]:
        """Thread CPU time by stage since start."""
        return self._stages.totals_ns

    async def close(self) -> None:
        """Let go of connections and the thread. Idempotent."""
        for client in self._clients:
            await client.close()
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def prove(self, items: Sequence[ProvingItem], progress: Callable[[ProofProgress], None]) -> Proof:
        """As `nodes.ports.Prover.prove`. Raises Unavailable with fewer answers than the threshold."""
        threshold = self._params.attester_threshold
        total = len(items) + threshold
        loop = asyncio.get_running_loop()
        statements = []
        for index, item in enumerate(items):
            progress(ProofProgress(done=index, total=total, step="program"))
            statements.append(await loop.run_in_executor(self._worker, self._statement, index, item))
        signatures = await _Round(self, items, statements, progress).signatures()
        # The contract wants signers strictly ascending, so that none counts twice.
        proof = b"".join(signature for _, signature in sorted(signatures.items())[:threshold])
        return Proof(statements=tuple(statements), proof=proof, kind=self._name)

    def _statement(self, index: int, item: ProvingItem) -> bytes:
        began_ns = thread_cpu_ns()
        try:
            output = run(decode_program(item.program_input))
            return statement_bytes(encode_public_values(output.public_values), item.settled_range)
        except TestbedError as error:
            raise ProofFailed(f"{type(error).__name__}: {error}", item=index) from error
        finally:
            self._stages.add("program", began_ns)

    async def ask(self, client: AttesterClient, items: Sequence[ProvingItem], statements: Sequence[bytes]) -> "_Answer":
        """One attester's signature over exactly these statements. Raises _Wrong or Unavailable."""
        try:
            async with asyncio.timeout(self._config.answer_timeout_ms / 1000):
                attestation = await client.attest(items, _ignore)
        except TimeoutError:
            raise Unavailable(f"{client.address} gave no attestation in {self._config.answer_timeout_ms} ms") from None
        except ProofFailed as error:
            raise _Wrong(f"it refuses what the program accepts: {error}") from error
        except TestbedError as error:
            # Overloaded, of another version, ...: no answer, but nothing false was signed.
            raise Unavailable(str(error)) from error
        if attestation.statements != tuple(statements):
            raise _Wrong("it attests other statements than the program gives")
        digest = settlement_digest(statements, l1_chain_id=self._params.l1_chain_id, manager=MANAGER)
        signer = recover_digest(digest, attestation.signature)
        if signer is None or signer not in self._params.attesters:
            who = "nobody's" if signer is None else f"that of {hex_of(signer)}, who is not registered"
            raise _Wrong(f"its signature is {who}")
        return _Answer(signer, attestation.signature)

    def note_wrong(self, client: AttesterClient, wrong: "_Wrong") -> None:
        """Publish what an attester did."""
        _log.warning("attester %s: %s", client.address, wrong)
        self._tracer.record(EvidenceFound(accused=f"attester {client.address}", detail=str(wrong)))

    @property
    def clients(self) -> Sequence[AttesterClient]:
        """Attesters in the order in which they are asked."""
        return self._clients

    @property
    def threshold(self) -> int:
        """Signatures that L1 wants."""
        return self._params.attester_threshold

    @property
    def patience_s(self) -> float:
        """After which an attester counts as slow."""
        return self._config.patience_ms / 1000


@dataclass(frozen=True, slots=True)
class _Answer:
    signer: Address
    signature: bytes


class _Wrong(Exception):
    """An attester contradicts the program."""


class _Round:
    """One batch at the attesters."""

    def __init__(
        self,
        prover: AttestedProver,
        items: Sequence[ProvingItem],
        statements: Sequence[bytes],
        progress: Callable[[ProofProgress], None],
    ) -> None:
        self._prover = prover
        self._items = items
        self._statements = statements
        self._progress = progress
        self._waiting = list(prover.clients)
        self._signatures: dict[Address, bytes] = {}
        self._problems: list[str] = []
        self._changed = asyncio.Event()
        self._asked = 0

    async def signatures(self) -> dict[Address, bytes]:
        """At least `threshold` of them. Raises Unavailable."""
        prover = self._prover
        async with asyncio.TaskGroup() as group:
            tasks = [self._ask_next(group) for _ in range(min(prover.threshold, len(self._waiting)))]
            while len(self._signatures) < prover.threshold:
                self._tell()
                open_tasks = [task for task in tasks if not task.done()]
                missing = prover.threshold - len(self._signatures) - len(open_tasks)
                while missing > 0 and self._waiting:
                    tasks.append(self._ask_next(group))
                    missing -= 1
                if all(task.done() for task in tasks):
                    break
                self._changed.clear()
                is_slow = True
                with suppress(TimeoutError):
                    async with asyncio.timeout(prover.patience_s):
                        await self._changed.wait()
                        is_slow = False
                if is_slow and self._waiting:
                    tasks.append(self._ask_next(group))
            for task in tasks:
                task.cancel()
        if len(self._signatures) < prover.threshold:
            raise Unavailable(
                f"{len(self._signatures)} of {self._asked} attesters signed, {prover.threshold} are needed: "
                f"{'; '.join(self._problems) or 'no attester is configured'}"
            )
        return self._signatures

    def _ask_next(self, group: asyncio.TaskGroup) -> "asyncio.Task[None]":
        self._asked += 1
        return group.create_task(self._ask(self._waiting.pop(0)))

    async def _ask(self, client: AttesterClient) -> None:
        try:
            answer = await self._prover.ask(client, self._items, self._statements)
            self._signatures[answer.signer] = answer.signature
        except Unavailable as error:
            self._problems.append(str(error))
        except _Wrong as wrong:
            self._problems.append(f"{client.address}: {wrong}")
            self._prover.note_wrong(client, wrong)
        finally:
            self._changed.set()

    def _tell(self) -> None:
        done = len(self._items) + len(self._signatures)
        total = len(self._items) + self._prover.threshold
        self._progress(ProofProgress(done=min(done, total), total=total, step="attestations"))


def _ignore(_progress: ProofProgress) -> None:
    """Progress of one attester says little about the batch."""


ATTESTED = ProverBackend(
    name=KIND,
    describe="attested: a threshold of attesters ran the pessimistic program natively and signed; not a ZK proof",
    verifier_contract="AttestedVerifier",
    tree_hashes=(),
    config_type=AttestedConfig,
    build=AttestedProver,
)
