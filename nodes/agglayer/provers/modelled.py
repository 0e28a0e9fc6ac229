"""The attested prover, as late as a zero-knowledge prover would be: to study latency. Modelled, not measured here.

The delay is drawn from published proving times of the pessimistic program in SP1: the community benchmark of AggLayer
0.2.1 with SP1 4.1.3 on one L4 GPU, for certificates of n exits and n imports. Certificates of a batch are taken to be
proven side by side, each on a machine of its own: the batch waits for the slowest.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from nodes.agglayer.provers.attested import AttestedConfig, AttestedProver
from nodes.agglayer.provers.backend import ProverBackend, ProverContext, check_number
from nodes.model.errors import InvalidScenario, UnknownName
from nodes.ports import Proof, ProofProgress, ProvingItem
from nodes.rules.program_encoding import decode_program

KIND = "modelled"
PROGRESS_STEPS = 20

_EXITS = (20, 100, 200, 500, 1_000, 2_000)
PROVING_TIMES_S: Mapping[str, tuple[float, ...]] = {
    "core": (52.2, 144, 265, 615, 1_193, 2_364),
    "compressed": (68.0, 197, 367, 853, 1_665, 3_307),
    "groth16": (106.8, 237, 404, 888, 1_702, 3_468),
}
"""Seconds by proof system, for 20, 100, 200, 500, 1,000 and 2,000 exits with as many imports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelledConfig(AttestedConfig):
    """Keys of the prover."""

    proof_system: str = "groth16"
    """core, compressed or groth16; the last is what L1 can verify."""
    scale: float = 1.0
    """Factor on the published times: 0.01 = a hundred times faster hardware."""
    spread: float = 0.05
    """Each delay is drawn evenly from so much below to so much above, as a share."""
    seed: int = 0

    def __post_init__(self) -> None:
        # Explicit: super() without arguments does not find the class that slots made anew.
        AttestedConfig.__post_init__(self)
        if self.proof_system not in PROVING_TIMES_S:
            unknown = UnknownName(kind="proof_system", name=self.proof_system, known=PROVING_TIMES_S)
            raise InvalidScenario(f"prover {KIND}: {unknown}")
        check_number(key="scale", value=self.scale, minimum=0, maximum=1_000)
        check_number(key="spread", value=self.spread, minimum=0, maximum=1)


def published_time_s(exits: int, imports: int, *, proof_system: str) -> float:
    """Proving time of one certificate; between, below and above the published sizes on straight lines."""
    size, times = (exits + imports) / 2, PROVING_TIMES_S[proof_system]
    at = min(max(bisect_right(_EXITS, size), 1), len(_EXITS) - 1)
    low, high = _EXITS[at - 1], _EXITS[at]
    return times[at - 1] + (times[at] - times[at - 1]) * (size - low) / (high - low)


class ModelledProver:
    """Satisfies `nodes.agglayer.provers.backend.ProverNode`."""

    def __init__(self, config: ModelledConfig, context: ProverContext) -> None:
        self._config = config
        self._attested = AttestedProver(config, context, name=KIND)
        self._random = Random(config.seed)

    @property
    def name(self) -> str:
        """Its line of the table."""
        return KIND

    @property
    def tree_hashes(self) -> tuple[str, ...]:
        """None beside Keccak."""
        return ()

    @property
    def stage_cpu_ns(self) -> Mapping[str, int]:
        """Of the attested prover within."""
        return self._attested.stage_cpu_ns

    async def close(self) -> None:
        """Of the attested prover within."""
        await self._attested.close()

    async def prove(self, items: Sequence[ProvingItem], progress: Callable[[ProofProgress], None]) -> Proof:
        """As `nodes.ports.Prover.prove`; refusals come at once, proofs after the modelled delay."""
        proof = await self._attested.prove(items, progress)
        delay_s = max(self.delay_s(item) for item in items)
        for step in range(PROGRESS_STEPS):
            progress(ProofProgress(done=step, total=PROGRESS_STEPS, step=f"modelled {self._config.proof_system} proof"))
            await asyncio.sleep(delay_s / PROGRESS_STEPS)
        return replace(proof, modelled_ns=int(delay_s * 1e9))

    def delay_s(self, item: ProvingItem) -> float:
        """The next draw for one certificate."""
        program = decode_program(item.program_input)
        exits, imports = len(program.bridge_exits), len(program.imported_bridge_exits)
        published = published_time_s(exits, imports, proof_system=self._config.proof_system)
        spread = self._config.spread
        return published * self._config.scale * self._random.uniform(1 - spread, 1 + spread)


MODELLED = ProverBackend(
    name=KIND,
    describe="modelled: attested, after a delay drawn from published SP1 proving times; not a ZK proof, times modelled",
    verifier_contract="AttestedVerifier",
    tree_hashes=(),
    config_type=ModelledConfig,
    build=ModelledProver,
)
