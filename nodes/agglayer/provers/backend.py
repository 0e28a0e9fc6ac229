"""What a prover backend is: config, how it is built, which contract verifies it, what its proofs are and are not."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

from nodes.agglayer.tree_hashes import HashedTrees
from nodes.model.agglayer import AgglayerParams, NetworkId
from nodes.model.errors import InvalidScenario, UnknownName
from nodes.ports import Prover
from nodes.telemetry.clock import Clock
from nodes.telemetry.tracer import Tracer


class ProverNode(Prover, Protocol):
    """A prover that this process runs."""

    async def close(self) -> None:
        """Let go of connections and threads. Idempotent."""
        ...

    @property
    def stage_cpu_ns(self) -> Mapping[str, int]:
        """Thread CPU time by stage since start."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProverContext:
    """What a prover may use."""

    params: AgglayerParams
    attester_endpoints: tuple[str, ...]
    clock: Clock
    tracer: Tracer
    trees: Callable[[NetworkId], Mapping[str, HashedTrees]]
    """Trees of a network as of its last final certificate, over the hashes that the prover asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProverBackend:
    """One line of the table."""

    name: str
    describe: str
    """One line; says what kind of proof it is, and what it is not."""
    verifier_contract: str
    """The contract on L1 that checks its proofs, behind `IPessimisticVerifier`."""
    tree_hashes: tuple[str, ...]
    """Names of `nodes.agglayer.tree_hashes.TREE_HASHES`."""
    config_type: type[Any]
    """Frozen dataclass; its defaults work. Checks its own ranges."""
    build: Callable[[Any, ProverContext], ProverNode]

    def configure(self, options: Mapping[str, Any]) -> Any:
        """The config that these keys give. Raises InvalidScenario for an unknown key or a value out of range."""
        known = [field.name for field in fields(self.config_type)]
        for key in options:
            if key not in known:
                raise InvalidScenario(f"prover {self.name}: {UnknownName(kind='key', name=key, known=known)}")
        return self.config_type(**options)


def check_number(*, key: str, value: object, minimum: float, maximum: float) -> None:
    """Raises InvalidScenario unless the value of a prover's key is a number within the range."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not minimum <= value <= maximum:
        raise InvalidScenario(f"prover key {key} is {value!r}; it must be a number from {minimum:,} to {maximum:,}")
