"""One attester: runs the whole pessimistic program on every certificate it is sent, and signs what that gives.

It believes nothing of the service that asks: signers, range and verdict are checked against its own parameters, and
what L1 must agree with (roots before, L1 info root) is in the statement that L1 builds itself. It keeps no state and
asks nobody. Its signature attests that a program was executed by it; that is not a zero-knowledge proof.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from coincurve import PrivateKey

from nodes.agglayer.admission import check_statement, network_of
from nodes.evm.agglayer_contracts import MANAGER
from nodes.model.config import AttesterNodeConfig
from nodes.model.errors import InvalidInput, ProofFailed, TestbedError, Unavailable
from nodes.model.faults import AttestWrong, DelayAttestations, Fault
from nodes.model.verdict import SignedVerdict
from nodes.ports import ProofProgress, ProvingItem
from nodes.rules.certificate import ChainData, aggchain_hash, settlement_digest, statement_bytes
from nodes.rules.pessimistic import ProgramInput, PublicValues, encode_public_values, run
from nodes.rules.program_encoding import decode_program
from nodes.rules.signing import address_of_key, sign_digest
from nodes.telemetry.clock import Clock, thread_cpu_ns
from nodes.telemetry.stages import StageCpu
from nodes.telemetry.tracer import Tracer
from nodes.wire.attester import Attestation, AttesterServicer
from nodes.wire.channel import Servicer

MAX_REQUESTS = 4
"""Batches that are attested at a time; more wait."""
_SIGNATURE_BYTES = 65

_log = logging.getLogger(__name__)


class AttesterNode:
    """Satisfies `nodes.wire.attester.AttesterView`."""

    def __init__(self, config: AttesterNodeConfig, *, clock: Clock, tracer: Tracer) -> None:
        self._config = config
        self._key = PrivateKey(bytes.fromhex(config.key.removeprefix("0x")))
        self._stages = StageCpu("program", "sign")
        self._requests = asyncio.Semaphore(MAX_REQUESTS)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"{config.name}-program")
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._signs_wrong = False
        self._delay_s = 0.0

    @property
    def servicers(self) -> Sequence[Servicer]:
        """What the host serves."""
        return (AttesterServicer(self),)

    @property
    def stage_cpu_ns(self) -> Mapping[str, int]:
        """Thread CPU time by stage since start."""
        return self._stages.totals_ns

    async def run(self) -> None:
        """Attest until `stop`."""
        # A key that is not registered on L1 signs in vain; say so at once, but a testnet may grow.
        if address_of_key(self._key) not in self._config.params.attesters:
            _log.warning("%s: its key is not among the registered attesters", self._config.name)
        self._ready.set()
        try:
            await self._stopping.wait()
        finally:
            self._stopping.set()
            self._worker.shutdown(wait=False, cancel_futures=True)

    def stop(self) -> None:
        """Let `run` return. Idempotent."""
        self._stopping.set()
        self._ready.set()

    async def wait_ready(self) -> None:
        """Return when it can be asked. Raises Unavailable where it has ended."""
        await self._ready.wait()
        if self._stopping.is_set():
            raise Unavailable(f"{self._config.name} has ended")

    async def inject(self, fault: Fault) -> None:
        """Take a fault. Raises InvalidInput for one that an attester cannot have."""
        match fault:
            case AttestWrong(on=on):
                self._signs_wrong = on
            case DelayAttestations(delay_ms=delay_ms):
                self._delay_s = delay_ms / 1000
            case _:
                raise InvalidInput(f"an attester cannot have the fault {type(fault).__name__}")

    async def attest(self, items: Sequence[ProvingItem], progress: Callable[[ProofProgress], None]) -> Attestation:
        """As `AttesterView.attest`. A caller that goes away stops the work at the next item."""
        if self._stopping.is_set():
            raise Unavailable(f"{self._config.name} has ended")
        async with self._requests:
            loop = asyncio.get_running_loop()
            statements = []
            for index, item in enumerate(items):
                progress(ProofProgress(done=index, total=len(items), step="program"))
                statements.append(await loop.run_in_executor(self._worker, self._statement, index, item))
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            if self._signs_wrong:
                statements = [statement[:-1] + bytes([statement[-1] ^ 1]) for statement in statements]
            with self._stages.measure("sign"):
                digest = settlement_digest(statements, l1_chain_id=self._config.params.l1_chain_id, manager=MANAGER)
                signature = sign_digest(digest, self._key)
            return Attestation(statements=tuple(statements), signature=signature)

    def _statement(self, index: int, item: ProvingItem) -> bytes:
        began_ns = thread_cpu_ns()
        try:
            program = decode_program(item.program_input)
            values = run(program).public_values
            check_item(program, values, item, self._config)
            return statement_bytes(encode_public_values(values), item.settled_range)
        except TestbedError as error:
            raise ProofFailed(f"{self._config.name}: {type(error).__name__}: {error}", item=index) from error
        finally:
            self._stages.add("program", began_ns)


def check_item(program: ProgramInput, values: PublicValues, item: ProvingItem, config: AttesterNodeConfig) -> None:
    """Enough of its network's registered signers authorize the certificate and its range; the verdict holds.

    Raises UnknownName, CertificateRefused, InvalidInput.
    """
    params = config.params
    network = network_of(params, program.network_id)
    where = f"certificate {program.height} of network {program.network_id}"
    if values.aggchain_hash != aggchain_hash(network.signers, params.signer_threshold):
        raise InvalidInput(f"{where} is authorized by others than its registered signers")
    settled = item.settled_range
    if not item.range_signatures and not item.signed_verdict and settled.last_height == settled.first_height - 1:
        return  # of a client that states nothing; L1 checks that such a range changes nothing
    verdict = item.signed_verdict
    data = ChainData(
        settled,
        item.range_signatures,
        SignedVerdict(verdict[_SIGNATURE_BYTES:], verdict[:_SIGNATURE_BYTES]) if verdict else None,
    )
    check_statement(where, data, program.certificate_id, network=network, params=params, chain_id=config.chain_id)
