"""Calldata for L1: settling certificates, and the bonds of builders.

It does not know how a proof is made or an outcome tree is built, nor what the statements under a proof say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nodes.evm.abi_words import Tail, address_word, arguments, tail_bytes, uint_word, word
from nodes.evm.agglayer_contracts import BOND_VAULT
from nodes.evm.contracts import encode_call, selector
from nodes.model.agglayer import SIGNATURE_BYTES, NetworkId, SettledRange
from nodes.model.errors import InvalidInput
from nodes.model.ids import Address, BundleHash, Height, hex_of
from nodes.rules.hashes import keccak256


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """One certificate as L1 gets it. The roots before it are those that L1 holds."""

    network_id: NetworkId
    l1_info_tree_leaf_count: int
    new_local_exit_root: bytes
    """That of an empty tree may be given as it is or as zero; L1 holds zero."""
    new_pessimistic_root: bytes
    range: SettledRange


def settle_call(items: Sequence[Settlement], proof: bytes) -> bytes:
    """`AgglayerManager.settle`: all certificates or none. Several of one rollup stand in their order."""
    array = uint_word(len(items), 256) + b"".join([_settlement_words(item) for item in items])
    return _SETTLE + arguments(Tail(array), tail_bytes(proof))


def verify_pessimistic_call(item: Settlement, proof: bytes, *, has_range: bool = True) -> bytes:
    """`verifyPessimisticTrustedAggregator`, upstream's form of settling one certificate.

    Without `has_range` the aggchain data is empty, which states an empty range.
    """
    aggchain_data = _range_words(item.range) if has_range else b""
    return _VERIFY_PESSIMISTIC + arguments(
        uint_word(item.network_id, 32),
        uint_word(item.l1_info_tree_leaf_count, 32),
        word(item.new_local_exit_root),
        word(item.new_pessimistic_root),
        tail_bytes(proof),
        tail_bytes(aggchain_data),
    )


def attested_proof(signatures: Mapping[Address, bytes]) -> bytes:
    """The proof that `AttestedVerifier` takes: signatures of the settlement digest, by ascending signer."""
    for signer, signature in signatures.items():
        if len(signature) != SIGNATURE_BYTES:
            raise InvalidInput(f"signature of {hex_of(signer)} has {len(signature)} bytes instead of {SIGNATURE_BYTES}")
    return b"".join([signatures[signer] for signer in sorted(signatures)])


@dataclass(frozen=True, slots=True, kw_only=True)
class BondPromise:
    """What a builder signs: `bundle_hash` succeeds as a whole, or `user` gets `amount` from the bond."""

    builder: Address
    bundle_hash: BundleHash
    user: Address
    amount: int
    """Wei."""
    expiry_block: int
    """The last L1 block in which it can be claimed."""
    placements: tuple[tuple[NetworkId, int], ...]
    """Network and leg index of every leg."""

    def packed_placements(self) -> bytes:
        """5 bytes for each leg."""
        return b"".join(
            [uint_word(network, 32)[-4:] + uint_word(leg_index, 8)[-1:] for network, leg_index in self.placements]
        )

    def digest(self, *, l1_chain_id: int) -> bytes:
        """The 32 bytes to sign."""
        return keccak256(
            keccak256(b"lockstep.bond.promise")
            + uint_word(l1_chain_id, 256)
            + address_word(BOND_VAULT)
            + address_word(self.builder)
            + word(self.bundle_hash)
            + address_word(self.user)
            + uint_word(self.amount, 256)
            + uint_word(self.expiry_block, 64)
            + keccak256(self.packed_placements())
        )

    def encoded(self) -> Tail:
        """As an argument of a call."""
        return Tail(
            arguments(
                address_word(self.builder),
                word(self.bundle_hash),
                address_word(self.user),
                uint_word(self.amount, 256),
                uint_word(self.expiry_block, 64),
                tail_bytes(self.packed_placements()),
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeProof:
    """That one leg of a promise had a fate: a leaf of the outcome tree of a settled range."""

    placement: int
    """Index into the promise's placements."""
    settled_height: Height
    """Last height of the range."""
    height: Height
    """At which the leg was sequenced."""
    status: int
    """`nodes.model.execution.Status`."""
    position: int
    siblings: tuple[bytes, ...]
    """Bottom-up."""

    def encoded(self) -> Tail:
        """As an argument of a call."""
        siblings = uint_word(len(self.siblings), 256) + b"".join([word(sibling) for sibling in self.siblings])
        return Tail(
            arguments(
                uint_word(self.placement, 256),
                uint_word(self.settled_height, 64),
                uint_word(self.height, 64),
                uint_word(self.status, 8),
                uint_word(self.position, 256),
                Tail(siblings),
            )
        )


def bond_deposit_call() -> bytes:
    """`BondVault.deposit`; the value of the call is added to the sender's bond."""
    return selector("deposit()")


def bond_request_withdrawal_call(*, amount: int) -> bytes:
    """`BondVault.requestWithdrawal`, in wei."""
    return encode_call("requestWithdrawal(uint256)", amount)


def bond_withdraw_call() -> bytes:
    """`BondVault.withdraw`, once the delay is over."""
    return selector("withdraw()")


def bond_reserve_call(promise: BondPromise, signature: bytes) -> bytes:
    """`BondVault.reserve`: nothing else can use up the amount before the promise expires."""
    return _BOND_RESERVE + arguments(promise.encoded(), tail_bytes(signature))


def bond_release_call(promise: BondPromise) -> bytes:
    """`BondVault.release`, of a reserved promise that has expired."""
    return _BOND_RELEASE + arguments(promise.encoded())


def bond_claim_call(promise: BondPromise, signature: bytes, *, failed: OutcomeProof, succeeded: OutcomeProof) -> bytes:
    """`BondVault.claim`: pays the user of a bundle of which one leg failed and another succeeded."""
    return _BOND_CLAIM + arguments(promise.encoded(), tail_bytes(signature), failed.encoded(), succeeded.encoded())


def _settlement_words(item: Settlement) -> bytes:
    return b"".join((
        uint_word(item.network_id, 32),
        uint_word(item.l1_info_tree_leaf_count, 32),
        word(item.new_local_exit_root),
        word(item.new_pessimistic_root),
        _range_words(item.range),
    ))  # fmt: skip


def _range_words(stated: SettledRange) -> bytes:
    return b"".join((
        uint_word(stated.first_height, 64),
        uint_word(stated.last_height, 64),
        word(stated.last_block_hash),
        word(stated.outcome_root),
        word(stated.verdict_root),
    ))  # fmt: skip


_SETTLEMENT_TYPES = "uint32,uint32,bytes32,bytes32,uint64,uint64,bytes32,bytes32,bytes32"
_SETTLE = selector(f"settle(({_SETTLEMENT_TYPES})[],bytes)")
_PROMISE_TYPES = "(address,bytes32,address,uint256,uint64,bytes)"
_OUTCOME_TYPES = "(uint256,uint64,uint64,uint8,uint256,bytes32[])"
_BOND_RESERVE = selector(f"reserve({_PROMISE_TYPES},bytes)")
_BOND_RELEASE = selector(f"release({_PROMISE_TYPES})")
_BOND_CLAIM = selector(f"claim({_PROMISE_TYPES},bytes,{_OUTCOME_TYPES},{_OUTCOME_TYPES})")
_VERIFY_PESSIMISTIC = selector("verifyPessimisticTrustedAggregator(uint32,uint32,bytes32,bytes32,bytes,bytes)")
BOND_PAID_TOPIC = keccak256(b"BondPaid(bytes32,address,address,bytes32,uint256)")
"""First topic of the event of a claim. Indexed: promise digest, builder, user; data: bundle hash, amount."""
