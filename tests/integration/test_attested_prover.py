"""Attesters over real gRPC, and the prover that asks them: down, slow, wrong, below and above the threshold."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
from coincurve import PrivateKey

from nodes.agglayer.attester import AttesterNode
from nodes.agglayer.provers import PROVERS
from nodes.agglayer.provers.backend import ProverContext, ProverNode
from nodes.agglayer.provers.modelled import PROVING_TIMES_S, published_time_s
from nodes.agglayer.staging import Staged, stage
from nodes.evm.agglayer_contracts import MANAGER
from nodes.model.agglayer import AgglayerParams
from nodes.model.config import AttesterNodeConfig
from nodes.model.errors import InvalidInput, InvalidScenario, ProofFailed, Unavailable
from nodes.model.faults import AttestWrong, DelayAttestations, KillEngine
from nodes.model.ids import ZERO_HASH, Address
from nodes.ports import Proof, ProofProgress, ProvingItem
from nodes.rules.certificate import settlement_digest
from nodes.rules.signing import address_of_key, recover_digest
from nodes.telemetry.clock import ManualClock
from nodes.telemetry.events import EvidenceFound
from nodes.telemetry.tracer import DiscardingTracer, MemoryTracer
from nodes.wire.attester import Attestation, AttesterClient
from nodes.wire.channel import server
from tests.support.agglayer_world import World, transfer
from tests.support.certificates import CHAIN_ID, Chain, heights, params, stating, verdict
from tests.support.patience import PATIENCE_S

HOST = "127.0.0.1"
ATTESTERS = tuple(PrivateKey(bytes([200 + at]) * 32) for at in range(4))
PARAMS = params(2, attesters=ATTESTERS[:3], threshold=2)


def staged_items(*, count: int = 2, exits: int = 3, agglayer: AgglayerParams = PARAMS) -> list[Staged]:
    """The first certificates of some networks, ready for a prover."""
    world = World(count)
    made = []
    for number in range(1, count + 1):
        world.deposit(number, [100])
    for number in range(1, count + 1):
        chain = Chain(number)
        other = number % count + 1
        certificate = chain.certificate([transfer(other, 1) for _ in range(exits)], [world.claim(0, number - 1)])
        made.append(
            stage(
                stating(certificate, heights(1, 4)),
                heights(1, 4),
                network=agglayer.networks[number - 1],
                params=agglayer,
                trees=chain.trees,
                prev_pessimistic_root=ZERO_HASH,
                l1_info_tree_leaf_count=world.info_tree.leaf_count,
                l1_info_root=world.l1_info_root,
            )
        )
    return made


STAGED = staged_items()
ITEMS = [staged.proving for staged in STAGED]
STATEMENTS = tuple(staged.settlement.statement for staged in STAGED)
DIGEST = settlement_digest(STATEMENTS, l1_chain_id=PARAMS.l1_chain_id, manager=MANAGER)


@dataclass(slots=True)
class Asked:
    """Attesters that run, and the prover that asks them."""

    nodes: list[AttesterNode]
    prover: ProverNode
    tracer: MemoryTracer
    progress: list[ProofProgress] = field(default_factory=list)
    is_asking: asyncio.Event = field(default_factory=asyncio.Event)

    async def prove(self, items: Sequence[ProvingItem] = ITEMS) -> Proof:
        return await self.prover.prove(items, self._note)

    def _note(self, progress: ProofProgress) -> None:
        self.progress.append(progress)
        if progress.step == "attestations":
            self.is_asking.set()

    @property
    def evidence(self) -> list[EvidenceFound]:
        return [stamped.event for stamped in self.tracer.stamped if isinstance(stamped.event, EvidenceFound)]


@asynccontextmanager
async def attesters(
    keys: Sequence[PrivateKey] = ATTESTERS[:3], *, down: int = 0, prover: str = "attested", **options: object
) -> AsyncIterator[Asked]:
    """One node per key; the first `down` ones do not run."""
    tracer = MemoryTracer(ManualClock())
    async with AsyncExitStack() as stack:
        nodes, endpoints = [], []
        group = await stack.enter_async_context(asyncio.TaskGroup())
        for number, key in enumerate(keys):
            config = AttesterNodeConfig(name=f"attester-{number}", key=key.to_hex(), params=PARAMS, chain_id=CHAIN_ID)
            node = AttesterNode(config, clock=ManualClock(), tracer=DiscardingTracer())
            if number < down:
                endpoints.append(f"{HOST}:1")
                continue
            group.create_task(node.run())
            stack.callback(node.stop)
            await node.wait_ready()
            bound = await stack.enter_async_context(server(node.servicers, name=config.name, host=HOST, port=0))
            nodes.append(node)
            endpoints.append(bound.address)
        backend = PROVERS[prover]
        context = ProverContext(
            params=PARAMS,
            attester_endpoints=tuple(endpoints),
            clock=ManualClock(),
            tracer=tracer,
            trees=lambda _network: {},
        )
        # Nobody is taken for slow who only runs on a busy machine, unless a test wants that.
        made = backend.build(backend.configure({"patience_ms": 3_600_000, **options}), context)
        stack.push_async_callback(made.close)
        yield Asked(nodes, made, tracer)


def signers(proof: bytes) -> list[Address | None]:
    return [recover_digest(DIGEST, proof[at : at + 65]) for at in range(0, len(proof), 65)]


async def test_a_threshold_of_attesters_makes_a_proof_for_l1() -> None:
    async with attesters() as asked:
        proof = await asked.prove()
    assert proof.statements == STATEMENTS
    assert proof.kind == "attested"
    found = signers(proof.proof)
    assert len(found) == 2
    assert found == sorted(found, key=bytes)  # type: ignore[arg-type]
    assert set(found) <= set(PARAMS.attesters)
    assert asked.progress[0] == ProofProgress(done=0, total=4, step="program")
    assert asked.progress[-1].step == "attestations"
    assert sum(node.stage_cpu_ns["sign"] > 0 for node in asked.nodes) == 2


async def test_one_that_is_down_is_replaced_by_another() -> None:
    async with attesters(down=1) as asked:
        proof = await asked.prove()
        assert set(signers(proof.proof)) == set(PARAMS.attesters[1:])
        assert not asked.evidence


async def test_below_the_threshold_there_is_no_proof() -> None:
    async with attesters(down=2) as asked:
        with pytest.raises(Unavailable, match="1 of 3 attesters signed, 2 are needed"):
            await asked.prove()


async def test_one_that_signs_something_else_is_published_and_replaced() -> None:
    async with attesters() as asked:
        await asked.nodes[0].inject(AttestWrong(on=True))
        proof = await asked.prove()
        assert set(signers(proof.proof)) == set(PARAMS.attesters[1:])
        (evidence,) = asked.evidence
        assert evidence.accused.startswith("attester 127.0.0.1:")
        assert evidence.detail == "it attests other statements than the program gives"
        await asked.nodes[1].inject(AttestWrong(on=True))
        with pytest.raises(Unavailable, match="1 of 3 attesters signed"):
            await asked.prove()
        await asked.nodes[1].inject(AttestWrong(on=False))
        assert (await asked.prove()).kind == "attested"


async def test_one_that_is_not_registered_does_not_count() -> None:
    async with attesters((ATTESTERS[3], *ATTESTERS[:2])) as asked:
        await asked.prove()
        (evidence,) = asked.evidence
        assert "who is not registered" in evidence.detail


async def test_a_slow_one_is_not_waited_for() -> None:
    async with attesters(patience_ms=20) as asked:
        await asked.nodes[0].inject(DelayAttestations(delay_ms=3_600_000))
        proof = await asked.prove()
        assert set(signers(proof.proof)) == set(PARAMS.attesters[1:])


async def test_one_that_never_answers_is_given_up() -> None:
    async with attesters(patience_ms=5, answer_timeout_ms=400, down=1) as asked:
        await asked.nodes[0].inject(DelayAttestations(delay_ms=3_600_000))
        with pytest.raises(Unavailable, match="gave no attestation in 400 ms"):
            await asked.prove()


async def test_a_refused_item_is_named_before_anybody_is_asked() -> None:
    broken = [ITEMS[0], replace(ITEMS[1], program_input=ITEMS[1].program_input[:-1])]
    async with attesters(down=3) as asked:
        with pytest.raises(ProofFailed, match="InvalidInput: input of the pessimistic program") as refused:
            await asked.prove(broken)
        assert refused.value.item == 1


async def test_proving_can_be_cancelled() -> None:
    async with attesters() as asked:
        for node in asked.nodes:
            await node.inject(DelayAttestations(delay_ms=3_600_000))
        proving = asyncio.ensure_future(asked.prove())
        async with asyncio.timeout(PATIENCE_S):
            await asked.is_asking.wait()
        proving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await proving


# The attester alone

FORGED = verdict(4, key=ATTESTERS[0])
BAD_ITEMS = {
    "range of another": (replace(ITEMS[0], settled_range=heights(1, 5)), "the range is not signed by"),
    "no range signature": (replace(ITEMS[0], range_signatures=()), "the range is not signed by"),
    "nobody's range signature": (replace(ITEMS[0], range_signatures=(bytes(65),)), "the range is not signed by"),
    "no verdict": (replace(ITEMS[0], signed_verdict=b""), "the verdict of height 4 is missing"),
    "verdict of a stranger": (
        replace(
            ITEMS[0],
            signed_verdict=FORGED.signature + FORGED.verdict,
        ),
        "the verdict is not signed by the resolver",
    ),
    "no program": (replace(ITEMS[0], program_input=b""), "input of the pessimistic program"),
}


@asynccontextmanager
async def one_attester() -> AsyncIterator[tuple[AttesterNode, AttesterClient]]:
    config = AttesterNodeConfig(name="attester-0", key=ATTESTERS[0].to_hex(), params=PARAMS, chain_id=CHAIN_ID)
    node = AttesterNode(config, clock=ManualClock(), tracer=DiscardingTracer())
    async with asyncio.TaskGroup() as group:
        group.create_task(node.run())
        try:
            async with (
                server(node.servicers, name="attester-0", host=HOST, port=0) as bound,
                AttesterClient(bound.address) as client,
            ):
                yield node, client
        finally:
            node.stop()


@pytest.mark.parametrize("case", BAD_ITEMS)
async def test_an_attester_believes_nothing(case: str) -> None:
    item, text = BAD_ITEMS[case]
    async with one_attester() as (_, client):
        with pytest.raises(ProofFailed, match=text) as refused:
            await client.attest([ITEMS[1], item], lambda _progress: None)
        assert refused.value.item == 1


async def test_an_attester_knows_who_may_sign_for_a_network() -> None:
    foreign = params(2)
    others = replace(foreign, networks=tuple(replace(net, signer=Address(b"\x01" * 20)) for net in foreign.networks))
    config = AttesterNodeConfig(name="attester-0", key=ATTESTERS[0].to_hex(), params=others, chain_id=CHAIN_ID)
    node = AttesterNode(config, clock=ManualClock(), tracer=DiscardingTracer())
    with pytest.raises(ProofFailed, match="authorized by others than its registered signer"):
        await node.attest(ITEMS[:1], lambda _progress: None)


async def test_progress_comes_before_the_attestation() -> None:
    async with one_attester() as (_, client):
        seen: list[ProofProgress] = []
        attestation = await client.attest(ITEMS, seen.append)
    assert isinstance(attestation, Attestation)
    assert attestation.statements == STATEMENTS
    assert recover_digest(DIGEST, attestation.signature) == address_of_key(ATTESTERS[0])
    assert all(progress.total == len(ITEMS) for progress in seen)


async def test_an_attester_that_ended_says_so_and_has_no_other_faults() -> None:
    config = AttesterNodeConfig(name="attester-0", key=ATTESTERS[0].to_hex(), params=PARAMS, chain_id=CHAIN_ID)
    node = AttesterNode(config, clock=ManualClock(), tracer=DiscardingTracer())
    with pytest.raises(InvalidInput, match="cannot have the fault KillEngine"):
        await node.inject(KillEngine())
    node.stop()
    with pytest.raises(Unavailable):
        await node.wait_ready()
    await node.run()
    with pytest.raises(Unavailable):
        await node.attest(ITEMS, lambda _progress: None)


# The table


def test_every_prover_says_that_it_is_no_zk_proof() -> None:
    for name, backend in PROVERS.items():
        assert backend.name == name
        assert backend.describe.startswith(f"{name}: ")
        assert "not a ZK proof" in backend.describe
        assert backend.verifier_contract == "AttestedVerifier"
        assert backend.configure({}) == backend.config_type()
        with pytest.raises(InvalidScenario, match="unknown key 'patiense_ms'; did you mean 'patience_ms'"):
            backend.configure({"patiense_ms": 5})
    for options in ({"patience_ms": 0}, {"answer_timeout_ms": "soon"}):
        with pytest.raises(InvalidScenario):
            PROVERS["attested"].configure(options)
    for options in ({"scale": -1}, {"proof_system": "plonk"}, {"spread": 2}):
        with pytest.raises(InvalidScenario):
            PROVERS["modelled"].configure(options)


def test_published_times_are_met_and_continued_on_straight_lines() -> None:
    for system, times in PROVING_TIMES_S.items():
        for size, seconds in zip((20, 100, 200, 500, 1_000, 2_000), times):
            assert published_time_s(size, size, proof_system=system) == pytest.approx(seconds)
        assert times[0] < published_time_s(60, 60, proof_system=system) < times[1]
        assert 0 < published_time_s(0, 0, proof_system=system) < times[0]
        assert published_time_s(3_000, 3_000, proof_system=system) > times[-1]


async def test_the_modelled_prover_is_late_by_what_it_says() -> None:
    async with attesters(prover="modelled", scale=0.001, seed=7) as asked:
        proof = await asked.prove()
    assert proof.kind == "modelled"
    assert proof.statements == STATEMENTS
    # 2 exits and imports or so take some 90 s; a thousandth of that, within the spread.
    expected_ns = published_time_s(3, 1, proof_system="groth16") * 1e6
    assert expected_ns * 0.94 < proof.modelled_ns < expected_ns * 1.06
    assert asked.progress[-1].step == "modelled groth16 proof"
