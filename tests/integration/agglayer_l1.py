"""What the tests of the contracts on L1 share: an L1 with rollups, and attesters who sign all they are asked to."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from coincurve import PrivateKey

from nodes.evm.agglayer_contracts import MANAGER
from nodes.evm.agglayer_genesis import l1_agglayer_accounts
from nodes.evm.agglayer_l1_calls import Settlement, attested_proof, settle_call
from nodes.evm.genesis import Account, TokenGenesis
from nodes.model.agglayer import AgglayerParams, NetworkId, NetworkParams, SettledRange
from nodes.model.ids import Address, ChainId, Height
from nodes.rules.certificate import aggchain_hash, settlement_digest, statement_bytes
from nodes.rules.exit_tree import EMPTY_LER, zero_if_empty
from nodes.rules.hashes import keccak256
from nodes.rules.pessimistic import PublicValues, encode_public_values
from nodes.rules.signing import address_of_key, sign_digest
from tests.integration.agglayer_chain import AgglayerChain, Sent, running
from tests.integration.anvil_chain import ALICE, BOB, CAROL, TOKENS

L1_CHAIN = 1337
AGGREGATOR = Address(b"\x0d" * 20)
OPEN_AFTER, DELAY = 10, 20
ATTESTERS = sorted((PrivateKey(bytes(31) + bytes([last])) for last in (11, 12, 13)), key=address_of_key)
STRANGER, BUILDER = PrivateKey(bytes(31) + b"\x55"), PrivateKey(bytes(31) + b"\x66")
ZERO = bytes(32)
NOTHING = SettledRange(
    first_height=Height(1), last_height=Height(0), last_block_hash=ZERO, outcome_root=ZERO, verdict_root=ZERO
)


def signer(network: int) -> Address:
    return Address(bytes([network]) * 20)


def agglayer_params(rollups: int) -> AgglayerParams:
    networks = tuple(
        NetworkParams(
            network_id=NetworkId(place),
            name=f"rollup-{place}",
            chain_id=ChainId(7000 + place),
            signer=signer(place),
            reporter=BOB,
        )
        for place in range(1, rollups + 1)
    )
    return AgglayerParams(
        networks=networks,
        resolver=CAROL,
        serial_rounds=8,
        abort_rule="serial",
        has_verdicts=True,
        l1_chain_id=ChainId(L1_CHAIN),
        attesters=tuple(address_of_key(key) for key in ATTESTERS),
        attester_threshold=2,
    )


@contextmanager
def running_l1(anvil: Path, *, rollups: int = 4, chain_id: int = L1_CHAIN) -> Iterator[AgglayerChain]:
    funded = {ALICE: 10**20, BOB: 10**18, AGGREGATOR: 0, address_of_key(BUILDER): 10**20}
    accounts = {address: Account(balance_wei=wei) for address, wei in funded.items()} | l1_agglayer_accounts(
        agglayer_params(rollups),
        trusted_aggregator=AGGREGATOR,
        open_after_blocks=OPEN_AFTER,
        withdrawal_delay_blocks=DELAY,
        token=TokenGenesis(balances={ALICE: 1_000 * TOKENS}),
    )
    with running(anvil, accounts, chain_id=chain_id) as chain:
        yield chain


def attest(
    statements: Sequence[bytes],
    keys: Sequence[PrivateKey] = tuple(ATTESTERS[:2]),
    *,
    l1_chain_id: int = L1_CHAIN,
    manager: Address = MANAGER,
) -> bytes:
    digest = settlement_digest(statements, l1_chain_id=l1_chain_id, manager=manager)
    return attested_proof({address_of_key(key): sign_digest(digest, key) for key in keys})


@dataclass(slots=True, kw_only=True)
class Ledger:
    """What L1 should hold of every rollup, kept by rules alone."""

    l1_info_root: bytes = EMPTY_LER
    leaf_count: int = 0
    local_roots: dict[int, bytes] = field(default_factory=dict)
    pessimistic_roots: dict[int, bytes] = field(default_factory=dict)
    ranges: dict[int, SettledRange] = field(default_factory=dict)

    def next(self, network: int, *, heights: int = 3, **changes: Any) -> Settlement:
        """A certificate that continues the last one, with some new roots."""
        last = self.ranges.get(network, NOTHING)
        first = last.last_height + 1
        seed = bytes([network]) + first.to_bytes(8, "big")
        stated = replace(last, first_height=Height(first))
        if heights:
            stated = SettledRange(
                first_height=Height(first),
                last_height=Height(first + heights - 1),
                last_block_hash=keccak256(seed + b"block"),
                outcome_root=keccak256(seed + b"outcome"),
                verdict_root=keccak256(seed + b"verdict"),
            )
        item = Settlement(
            network_id=NetworkId(network),
            l1_info_tree_leaf_count=self.leaf_count,
            new_local_exit_root=keccak256(seed + b"exits"),
            new_pessimistic_root=keccak256(self.pessimistic_roots.get(network, ZERO) + seed),
            range=stated,
        )
        return replace(item, **changes)

    def statement(self, item: Settlement) -> bytes:
        network = item.network_id
        values = PublicValues(
            prev_local_exit_root=self.local_roots.get(network, ZERO),
            prev_pessimistic_root=self.pessimistic_roots.get(network, ZERO),
            l1_info_root=self.l1_info_root,
            network_id=network,
            aggchain_hash=aggchain_hash([signer(network)], 1),
            new_local_exit_root=zero_if_empty(item.new_local_exit_root),
            new_pessimistic_root=item.new_pessimistic_root,
        )
        return statement_bytes(encode_public_values(values), item.range)

    def apply(self, item: Settlement) -> bytes:
        """The statement of a certificate, after which the ledger stands behind it."""
        statement = self.statement(item)
        self.local_roots[item.network_id] = zero_if_empty(item.new_local_exit_root)
        self.pessimistic_roots[item.network_id] = item.new_pessimistic_root
        self.ranges[item.network_id] = item.range
        return statement

    def settle(self, chain: AgglayerChain, *items: Settlement) -> Sent:
        statements = [self.apply(item) for item in items]
        return chain.transact(AGGREGATOR, MANAGER, settle_call(items, attest(statements)))
