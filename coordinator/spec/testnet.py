"""The resolved testnet: everything a launcher, a load generator and a verifier need, with nothing left to choose.

Another type than the scenario on purpose: a scenario is what somebody wrote, this is what will run. It is stored as
`testnet.json` in every run directory; keys in it follow from the seed and are worth nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordinator.spec.keys import DevAccount, dev_account
from nodes.model.config import RollupNodeConfig, SequencerNodeConfig
from nodes.model.errors import InvalidInput
from nodes.model.execution import RollupParams, TestnetParams
from nodes.model.ids import Address, chain_id_of
from nodes.model.json_form import from_json, to_json

FORMAT = 1
FILE_NAME = "testnet.json"
SEQUENCER_NAME = "sequencer"


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

    @property
    def user_accounts(self) -> tuple[DevAccount, ...]:
        """Funded on every rollup; for people and their tools."""
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
        """The sequencer, then every rollup node."""
        return (SEQUENCER_NAME, *(name for rollup in self.rollups for name in self.replica_names(rollup)))

    def replica_names(self, rollup: ResolvedRollup) -> tuple[str, ...]:
        """Names of the nodes of one rollup: rollup-1, rollup-1-replica-2, ..."""
        others = (f"{rollup.name}-replica-{number}" for number in range(2, self.replicas + 1))
        return (rollup.name, *others)

    def sequencer_config(self) -> SequencerNodeConfig:
        """The sequencer node, with its port left open."""
        return SequencerNodeConfig(name=SEQUENCER_NAME, backend=self.backend, options=self.backend_options)

    def rollup_configs(self, sequencer_address: str) -> list[RollupNodeConfig]:
        """Every rollup node, replicas beside one another, with ports left open."""
        return [
            RollupNodeConfig(
                name=name,
                rollup_id=rollup.params.rollup_id,
                backend=self.backend,
                finality_options=self.finality_options,
                sequencer_endpoints=(sequencer_address,),
                genesis=rollup.genesis,
                verify_proofs=self.verify_proofs,
                checkpoint_interval_heights=self.checkpoint_interval_heights,
                rewind_window=self.rewind_window,
                history_blocks=self.history_blocks,
            )
            for rollup in self.rollups
            for name in self.replica_names(rollup)
        ]


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
