"""Who a rollup node is on the aggregation layer: its network, and the key that its reports are signed with."""

from dataclasses import dataclass

from coincurve import PrivateKey

from nodes.model.agglayer import NetworkParams
from nodes.model.config import RollupAgglayerConfig
from nodes.model.ids import RollupId


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnNetwork:
    """Who this node is on the aggregation layer."""

    config: RollupAgglayerConfig
    network: NetworkParams
    reporter: PrivateKey
    chain_id: bytes
    """The sequencer's."""
    speculation_heights: int
    """Heights that may be executed beyond the last one with a verdict; at least 1."""

    @classmethod
    def of(
        cls, config: RollupAgglayerConfig, rollup_id: RollupId, *, chain_id: bytes, rewind_window: int
    ) -> "OwnNetwork":
        """The network of a rollup, whose engine can go back `rewind_window` blocks: never is more executed ahead."""
        network = config.params.network_of(rollup_id)
        assert network is not None, "the coordinator lists every rollup of the testnet"
        reporter = PrivateKey(bytes.fromhex(config.reporter_key.removeprefix("0x")))
        return cls(
            config=config,
            network=network,
            reporter=reporter,
            chain_id=chain_id,
            speculation_heights=max(1, min(config.speculation_heights, rewind_window)),
        )
