"""What a run's load is made of: keys, routing, workload and planner, from the scenario and its resolved testnet."""

from dataclasses import dataclass

import numpy as np

from coordinator.spec.resolve import POOL_RESERVE
from coordinator.spec.scenario import Scenario
from coordinator.spec.testnet import ResolvedTestnet
from coordinator.workload.base import BundleShape, Funding, Surroundings
from coordinator.workload.phase import Planner
from coordinator.workload.presign import Signers
from coordinator.workload.routes import Routing, check_routing
from coordinator.workload.table import build_workload


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSetup:
    """Everything needed to plan and sign, for all rollups of a testnet or the first few."""

    routing: Routing
    signers: Signers
    planner: Planner
    rng: np.random.Generator
    shape: BundleShape
    funding: Funding | None
    """What the workload needs from L1 before it starts."""

    @property
    def legs(self) -> int:
        """Legs of every bundle."""
        return len(self.shape.legs)


def load_setup(scenario: Scenario, testnet: ResolvedTestnet, *, rollups: int, stream: int) -> LoadSetup:
    """Set up load over the first `rollups` rollups. Equal seeds and `stream` give equal load.

    Raises InvalidScenario or UnknownName where the workload cannot run on this testnet.
    """
    table = scenario.workload
    routing = Routing(rollups=rollups, legs=table.legs, popularity=table.popularity, zipf_exponent=table.zipf_exponent)
    check_routing(routing)
    lanes = testnet.lane_accounts
    operators = [testnet.keys.bank_operator(lane) for lane in range(len(lanes))]
    surroundings = Surroundings(
        accounts=[[account.address for account in lanes]] * rollups,
        pool_reserves=(POOL_RESERVE, POOL_RESERVE),
        operators=[account.address for account in operators],
        stops=table.legs,
        has_bridge=testnet.uses_agglayer,
        contracts=frozenset(contract.address for contract in testnet.contracts),
    )
    rng = np.random.default_rng([scenario.seed, stream])
    workload = build_workload(table, surroundings, source=scenario.source)
    return LoadSetup(
        routing=routing,
        signers=Signers(
            chain_ids=tuple(rollup.chain_id for rollup in testnet.rollups[:rollups]),
            secrets=(tuple(account.key for account in (*lanes, *operators)),) * rollups,
        ),
        planner=Planner(routing=routing, lanes=len(lanes), workload=workload, rng=rng),
        rng=rng,
        shape=workload.shape,
        funding=workload.funding,
    )
