"""An L1 with the aggregation layer's contracts, and rollups that exist only as the roots they settle."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from coincurve import PrivateKey

from nodes.agglayer.batch import Batch, SettlementItem
from nodes.evm.agglayer_contracts import MANAGER
from nodes.evm.agglayer_genesis import l1_agglayer_accounts
from nodes.evm.agglayer_l1_calls import attested_proof
from nodes.evm.genesis import Account
from nodes.model.agglayer import (
    MAINNET,
    AgglayerParams,
    BridgeExit,
    CertificateHeight,
    CertificateId,
    LeafType,
    NetworkId,
    NetworkParams,
    SettledRange,
    TokenInfo,
)
from nodes.model.ids import ZERO_HASH, Address, ChainId, Height
from nodes.rules.certificate import aggchain_hash, settlement_digest, statement_bytes
from nodes.rules.exit_tree import EMPTY_LER, ExitTree, leaf_hash, zero_if_empty
from nodes.rules.hashes import keccak256
from nodes.rules.pessimistic import PublicValues, encode_public_values
from nodes.rules.signing import address_of_key, sign_digest
from tests.support.l1 import account

AGGREGATOR = account(1)
STRANGER = account(2)
USER = account(3)
ORACLE_KEY = PrivateKey((4).to_bytes(32, "big"))
OPEN_AFTER_BLOCKS = 5
ATTESTERS = tuple(PrivateKey((100 + at).to_bytes(32, "big")) for at in range(3))


def params(networks: int = 2) -> AgglayerParams:
    return AgglayerParams(
        networks=tuple(
            NetworkParams(
                network_id=NetworkId(number),
                name=f"rollup-{number}",
                chain_id=ChainId(7000 + number),
                signer=Address(bytes(19) + bytes([number])),
                reporter=Address(bytes(19) + bytes([100 + number])),
            )
            for number in range(1, networks + 1)
        ),
        resolver=Address(b"\x33" * 20),
        serial_rounds=8,
        abort_rule="serial",
        has_verdicts=True,
        l1_chain_id=ChainId(900),
        attesters=tuple(address_of_key(key) for key in ATTESTERS),
        attester_threshold=2,
    )


def l1_accounts(networks: int = 2) -> dict[Address, Account]:
    return l1_agglayer_accounts(
        params(networks),
        trusted_aggregator=AGGREGATOR.address,
        open_after_blocks=OPEN_AFTER_BLOCKS,
        withdrawal_delay_blocks=5,
    )


def exit_to(network: int, amount: int = 1) -> BridgeExit:
    return BridgeExit(
        leaf_type=LeafType.TRANSFER,
        token=TokenInfo(MAINNET, Address(bytes(20))),
        dest_network=NetworkId(network),
        dest_address=USER.address,
        amount=amount,
        metadata_hash=keccak256(b""),
    )


@dataclass
class Rollup:
    """What one rollup has certified."""

    network: NetworkParams
    exits: ExitTree = field(default_factory=ExitTree)
    pessimistic_root: bytes = ZERO_HASH
    last_height: int = 0
    certificates: int = 0
    counts: dict[bytes, int] = field(default_factory=dict)

    def certify(self, exits: Sequence[BridgeExit], *, leaf_count: int, l1_info_root: bytes) -> SettlementItem:
        """The next certificate's item; every one states one more sequenced height."""
        before = self.exits.root()
        self.exits.append_many([leaf_hash(one) for one in exits])
        after = self.exits.root()
        self.counts[zero_if_empty(after)] = self.exits.leaf_count
        self.certificates += 1
        prev_root, height = self.pessimistic_root, self.last_height + 1
        self.pessimistic_root = keccak256(
            b"pp" + bytes([self.network.network_id]) + self.certificates.to_bytes(8, "big")
        )
        self.last_height = height
        stated = SettledRange(
            first_height=Height(height),
            last_height=Height(height),
            last_block_hash=keccak256(b"block" + height.to_bytes(8, "big")),
            outcome_root=keccak256(b"outcomes" + height.to_bytes(8, "big")),
            verdict_root=ZERO_HASH,
        )
        values = PublicValues(
            prev_local_exit_root=zero_if_empty(before),
            prev_pessimistic_root=prev_root,
            l1_info_root=l1_info_root,
            network_id=self.network.network_id,
            aggchain_hash=aggchain_hash((self.network.signer,), 1),
            new_local_exit_root=zero_if_empty(after),
            new_pessimistic_root=self.pessimistic_root,
        )
        return SettlementItem(
            network_id=self.network.network_id,
            certificate_height=CertificateHeight(self.certificates - 1),
            certificate_id=CertificateId(keccak256(self.pessimistic_root)),
            l1_info_tree_leaf_count=leaf_count,
            new_local_exit_root=after,
            new_pessimistic_root=self.pessimistic_root,
            settled_range=stated,
            statement=statement_bytes(encode_public_values(values), stated),
        )


class Rollups:
    """All of them; satisfies `nodes.agglayer.batch.SettledExits`."""

    def __init__(self, networks: int = 2) -> None:
        self.all = {network.network_id: Rollup(network) for network in params(networks).networks}
        self._batches = 0

    def batch(
        self, *exits: Sequence[BridgeExit], leaf_count: int = 0, l1_info_root: bytes = EMPTY_LER, attesters: int = 2
    ) -> Batch:
        """One certificate for each of the first rollups."""
        items = tuple(
            rollup.certify(wanted, leaf_count=leaf_count, l1_info_root=l1_info_root)
            for rollup, wanted in zip(self.all.values(), exits)
        )
        self._batches += 1
        statements = [item.statement for item in items]
        digest = settlement_digest(statements, l1_chain_id=params().l1_chain_id, manager=MANAGER)
        signatures = {address_of_key(key): sign_digest(digest, key) for key in ATTESTERS[:attesters]}
        return Batch(batch_id=self._batches, items=items, proof=attested_proof(signatures), proof_kind="attested")

    def exit_tree(self, network_id: NetworkId) -> ExitTree | None:
        return self.all[network_id].exits

    def leaf_count_of(self, network_id: NetworkId, local_exit_root: bytes) -> int | None:
        return self.all[network_id].counts.get(local_exit_root)
