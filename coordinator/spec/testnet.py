"""The resolved testnet: everything a launcher, a load generator and a verifier need, with nothing left to choose.

Another type than the scenario on purpose: a scenario is what somebody wrote, this is what will run. It is stored as
`testnet.json` in every run directory; keys in it follow from the seed and are worth nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coordinator.spec.agglayer import AgglayerKeys, ResolvedAgglayer, hex_key
from coordinator.spec.keys import DevAccount, dev_account
from nodes.model.config import (
    AgglayerNodeConfig,
    AttesterNodeConfig,
    BuilderNodeConfig,
    DivergenceConfig,
    L1NodeConfig,
    RollupAgglayerConfig,
    RollupNodeConfig,
    SequencerNodeConfig,
)
from nodes.model.errors import InvalidInput
from nodes.model.execution import RollupParams, TestnetParams
from nodes.model.ids import Address, chain_id_of
from nodes.model.json_form import from_json, to_json
from nodes.model.wide_area import WideArea

FORMAT = 1
FILE_NAME = "testnet.json"
SEQUENCER_NAME = "sequencer"
L1_NAME = "l1"
AGGLAYER_NAME = "agglayer"
BUILDER_NAME = "builder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the nodes that others must know will listen. What a testnet does not have is empty."""

    sequencer: str
    agglayer: str = ""
    attesters: tuple[str, ...] = ()
    l1_rpc_url: str = ""
    builder: str = ""
    rollup_rpc_urls: Mapping[str, str] = field(default_factory=dict)
    """JSON-RPC of each rollup's first node, by name; only where an aggregation layer or a builder asks them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedRollup:
    """One rollup: its rules and its genesis."""

    params: RollupParams
    genesis: str
    """Genesis JSON of the engine, equal for all replicas."""

    @property
    def name(self) -> str:
        """The rollup's name; its first node has the same."""
        return self.params.name

    @property
    def chain_id(self) -> int:
        """EVM chain id."""
        return chain_id_of(self.params.rollup_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedContract:
    """A contract of the scenario's own."""

    artifact: str
    address: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedTestnet:
    """A testnet that can be started."""

    format: int
    scenario: str
    seed: int
    launcher: str
    """A key of `coordinator.launch.LAUNCHERS`."""
    atomicity: str
    backend: str
    backend_options: Mapping[str, Any]
    """Every field of the backend's `Config` that differs from its default, the signing key included."""
    finality_options: Mapping[str, Any]
    """What readers need to check the backend's finality proofs."""
    params: TestnetParams
    rollups: tuple[ResolvedRollup, ...]
    """In ascending order of chain id, as in `params.rollups`."""
    replicas: int
    nodes_per_actor: int
    """0 = chosen by the launcher from the cores it finds."""
    verify_proofs: bool
    checkpoint_interval_heights: int
    rewind_window: int
    history_blocks: int
    users: int
    lanes: int
    accounts_per_rollup: int
    """Accounts in each genesis; an engine's cost grows with them, so reports print it."""
    contracts: tuple[PlacedContract, ...] = ()
    """Stand at the same address on every rollup."""
    agglayer: ResolvedAgglayer | None = None
    """The aggregation layer with its L1; None where there is none."""
    divergence: DivergenceConfig | None = None
    """How engines are checked by a second EVM; None = not at all."""
    divergence_rollups: tuple[str, ...] = ()
    """Whose engines are checked."""
    wide_area: WideArea | None = None
    """Where nodes stand and how far apart; None where links are not emulated."""

    @property
    def uses_agglayer(self) -> bool:
        """There is an aggregation layer, an L1, and a bridge on every rollup."""
        return self.agglayer is not None

    @property
    def has_verdicts(self) -> bool:
        """Heights are resolved: no bundle that succeeded in part becomes safe."""
        return self.agglayer is not None and self.agglayer.params.has_verdicts

    @property
    def has_builder(self) -> bool:
        """Users submit to a super builder."""
        return self.agglayer is not None and self.agglayer.builder is not None

    @property
    def keys(self) -> AgglayerKeys:
        """Accounts of the aggregation layer; of no use where there is none."""
        return AgglayerKeys(seed=self.seed)

    @property
    def user_accounts(self) -> tuple[DevAccount, ...]:
        """For people and their tools. Funded on every rollup; on L1 alone where the rollups' money is deposited."""
        return tuple(dev_account(self.seed, "user", index) for index in range(self.users))

    @property
    def lane_accounts(self) -> tuple[DevAccount, ...]:
        """Funded on every rollup; lane `i` of the load sends from account `i`, on whichever rollup a leg is for."""
        return tuple(dev_account(self.seed, "lane", index) for index in range(self.lanes))

    @property
    def faucet(self) -> DevAccount:
        """Holds more than everybody else together, for tests and tools that make accounts of their own."""
        return dev_account(self.seed, "faucet", 0)

    @property
    def node_names(self) -> tuple[str, ...]:
        """The sequencer, then every rollup node, then L1, aggregation layer, attesters and builder where they are."""
        return tuple(name for names in self.nodes_by_kind.values() for name in names)

    @property
    def rollup_node_names(self) -> tuple[str, ...]:
        """Every rollup node, replicas beside one another."""
        return tuple(name for rollup in self.rollups for name in self.replica_names(rollup))

    @property
    def attester_names(self) -> tuple[str, ...]:
        """attester-1, attester-2, ... in the order of their keys in `AgglayerParams.attesters`."""
        count = 0 if self.agglayer is None else len(self.agglayer.params.attesters)
        return tuple(f"attester-{number}" for number in range(1, count + 1))

    @property
    def nodes_by_kind(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the nodes by `NodeEndpoint.kind`."""
        return {
            "sequencer": (SEQUENCER_NAME,),
            "rollup": self.rollup_node_names,
            "l1": (L1_NAME,) if self.uses_agglayer else (),
            "agglayer": (AGGLAYER_NAME,) if self.uses_agglayer else (),
            "attester": self.attester_names,
            "builder": (BUILDER_NAME,) if self.has_builder else (),
        }

    def replica_names(self, rollup: ResolvedRollup) -> tuple[str, ...]:
        """Names of the nodes of one rollup: rollup-1, rollup-1-replica-2, ..."""
        others = (f"{rollup.name}-replica-{number}" for number in range(2, self.replicas + 1))
        return (rollup.name, *others)

    def sequencer_config(self) -> SequencerNodeConfig:
        """The sequencer node, with its port left open."""
        return SequencerNodeConfig(name=SEQUENCER_NAME, backend=self.backend, options=self.backend_options)

    def rollup_configs(self, addresses: Addresses) -> list[RollupNodeConfig]:
        """Every rollup node, replicas beside one another, with ports left open."""
        return [
            RollupNodeConfig(
                name=name,
                rollup_id=rollup.params.rollup_id,
                backend=self.backend,
                finality_options=self.finality_options,
                sequencer_endpoints=(addresses.sequencer,),
                genesis=rollup.genesis,
                verify_proofs=self.verify_proofs,
                checkpoint_interval_heights=self.checkpoint_interval_heights,
                rewind_window=self.rewind_window,
                history_blocks=self.history_blocks,
                agglayer=self._of_agglayer(rollup, network_id, addresses, is_first=name == rollup.name),
                divergence=self.divergence if name in self.divergence_rollups else None,
            )
            for network_id, rollup in enumerate(self.rollups, start=1)
            for name in self.replica_names(rollup)
        ]

    def _of_agglayer(
        self, rollup: ResolvedRollup, network_id: int, addresses: Addresses, *, is_first: bool
    ) -> RollupAgglayerConfig | None:
        layer = self.agglayer
        if layer is None or not (layer.settle or layer.params.has_verdicts):
            return None  # the rollup has a bridge, but no part in anything
        return RollupAgglayerConfig(
            params=layer.params,
            endpoint=addresses.agglayer,
            reporter_key=hex_key(self.keys.reporter(network_id)),
            signer_key=hex_key(self.keys.signer(network_id)) if layer.settle and is_first else "",
            co_signer_keys=self._co_signer_keys(network_id) if layer.settle and is_first else (),
            speculation_heights=layer.speculation_heights,
            certificate_interval_s=layer.certificate_interval_s,
            max_exits=layer.max_exits,
            lies=layer.liars.get(rollup.name, ""),
        )

    def _co_signer_keys(self, network_id: int) -> tuple[str, ...]:
        count = len(self._layer().params.networks[network_id - 1].co_signers)
        return tuple(hex_key(self.keys.co_signer(network_id, member)) for member in range(1, count + 1))

    def l1_config(self) -> L1NodeConfig:
        """The L1, with its ports left open. Only where there is one."""
        layer = self._layer()
        return L1NodeConfig(
            name=L1_NAME,
            chain_id=layer.params.l1_chain_id,
            genesis=layer.l1_genesis,
            slot_time_ms=layer.slot_time_ms,
            finality_slots=layer.finality_slots,
            gas_limit=layer.l1_block_gas_limit,
        )

    def attester_configs(self) -> list[AttesterNodeConfig]:
        """Every attester, with its port left open."""
        return [
            AttesterNodeConfig(
                name=name,
                key=hex_key(self.keys.attester(number)),
                params=self._layer().params,
                chain_id=self.params.sequencer_chain_id,
            )
            for number, name in enumerate(self.attester_names, start=1)
        ]

    def agglayer_config(self, addresses: Addresses) -> AgglayerNodeConfig:
        """The aggregation layer's service, with its port left open. Only where there is one."""
        layer, keys = self._layer(), self.keys
        return AgglayerNodeConfig(
            name=AGGLAYER_NAME,
            params=layer.params,
            sequencer_endpoints=(addresses.sequencer,),
            backend=self.backend,
            finality_options=self.finality_options,
            l1_rpc_url=addresses.l1_rpc_url,
            prover=layer.prover,
            prover_options=layer.prover_options,
            attester_endpoints=addresses.attesters,
            resolver_key=hex_key(keys.resolver),
            settlement_key=hex_key(keys.settlement),
            oracle_key=hex_key(keys.oracle),
            epoch_blocks=layer.epoch_blocks,
            report_timeout_ms=layer.report_timeout_ms,
            # Where nobody sends certificates no exit ever settles, and that is nobody's fault.
            void_after_blocks=layer.void_after_blocks if layer.settle else 0,
            oracle_level=layer.oracle_level,
            settled_level=layer.settled_level,
            rollup_rpc_urls=addresses.rollup_rpc_urls,
        )

    def builder_config(self, addresses: Addresses) -> BuilderNodeConfig:
        """The super builder, with its port left open. Only where there is one."""
        layer = self._layer()
        assert layer.builder is not None
        return BuilderNodeConfig(
            name=BUILDER_NAME,
            params=layer.params,
            testnet=self.params,
            sequencer_endpoints=(addresses.sequencer,),
            rollup_rpc_urls=addresses.rollup_rpc_urls,
            l1_rpc_url=addresses.l1_rpc_url,
            key=hex_key(self.keys.builder),
            batch_ms=layer.builder.batch_ms,
            bond_wei=layer.builder.bond_wei,
            promise_wei=layer.builder.promise_wei,
            promise_blocks=layer.builder.promise_blocks,
            careless=layer.builder.careless,
        )

    def _layer(self) -> ResolvedAgglayer:
        assert self.agglayer is not None
        return self.agglayer


def save_testnet(testnet: ResolvedTestnet, directory: Path) -> Path:
    """Write `testnet.json` into a directory and return its path."""
    path = directory / FILE_NAME
    path.write_text(json.dumps(to_json(testnet), indent=1) + "\n", encoding="utf-8")
    return path


def load_testnet(directory: Path) -> ResolvedTestnet:
    """Read `testnet.json` back. Raises InvalidInput where the file is missing, cut short or of another format."""
    path = directory / FILE_NAME
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidInput(f"{directory} has no {FILE_NAME}: it is not the directory of a testnet or a run") from error
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT:
        raise InvalidInput(f"{path} has format {found}, this version reads {FORMAT}; use the version that wrote it")
    return from_json(ResolvedTestnet, document, where=str(path))
