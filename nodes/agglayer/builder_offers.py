"""What a builder is handed: one submission, decoded and checked as far as that needs no state.

Derivation would drop what is refused here. It does not know nonces, balances, heights or other bundles.
"""

from dataclasses import dataclass
from typing import NamedTuple

from nodes.model.agglayer import AgglayerParams, NetworkId
from nodes.model.bundle import BUNDLE_VERSION, Bundle
from nodes.model.errors import InvalidSubmission
from nodes.model.execution import DropReason, TestnetParams, Transaction
from nodes.model.ids import BundleHash, SubmissionHash, chain_id_of
from nodes.rules.bundle import bundle_hash
from nodes.rules.hashes import sha256
from nodes.rules.payload import decode
from nodes.wire.bundles import bundle_from_bytes


class OfferedLeg(NamedTuple):
    """One transaction of a submission."""

    network_id: NetworkId
    transaction: Transaction
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One submission."""

    data: bytes
    submission_hash: SubmissionHash
    bundle_hash: BundleHash
    """Of a plain transaction, which has none, its submission hash: unique likewise."""
    legs: tuple[OfferedLeg, ...]
    is_plain: bool

    @property
    def gas(self) -> int:
        """Gas limits of all legs."""
        return sum(leg.transaction.gas_limit for leg in self.legs)


def offer_of(data: bytes, *, testnet: TestnetParams, params: AgglayerParams) -> Offer:
    """The submission. Raises InvalidSubmission naming the leg and why no rollup would take it."""
    bundle = bundle_from_bytes(data)
    legs = tuple(_leg(bundle, index, testnet, params) for index in range(len(bundle.legs)))
    submission_hash = SubmissionHash(sha256(data))
    if bundle.is_plain:
        if legs[0].transaction.trailer is not None:
            raise InvalidSubmission("a leg of a bundle was submitted as a plain transaction; submit the whole bundle")
        identity = BundleHash(submission_hash)
    else:
        identity = _checked_hash(bundle, legs)
    return Offer(data=data, submission_hash=submission_hash, bundle_hash=identity, legs=legs, is_plain=bundle.is_plain)


def _leg(bundle: Bundle, index: int, testnet: TestnetParams, params: AgglayerParams) -> OfferedLeg:
    leg = bundle.legs[index]
    rollup, network = testnet.rollup(leg.rollup_id), params.network_of(leg.rollup_id)
    if rollup is None or network is None:
        raise InvalidSubmission(f"leg {index}: rollup id {leg.rollup_id.hex()} is of no rollup of this testnet")
    transaction = decode(leg.payload, chain_id_of(leg.rollup_id))
    if isinstance(transaction, DropReason):
        raise InvalidSubmission(f"leg {index} on {rollup.name} would be dropped: {transaction.name.lower()}")
    if transaction.gas_limit > rollup.leg_gas_cap:
        raise InvalidSubmission(
            f"leg {index} on {rollup.name}: gas limit {transaction.gas_limit:,} is above leg_gas_cap = "
            f"{rollup.leg_gas_cap:,}"
        )
    return OfferedLeg(network.network_id, transaction, leg.payload)


def _checked_hash(bundle: Bundle, legs: tuple[OfferedLeg, ...]) -> BundleHash:
    if bundle.version != BUNDLE_VERSION:
        raise InvalidSubmission(f"bundle version {bundle.version}; this testnet knows {BUNDLE_VERSION}")
    identity = bundle_hash(
        version=bundle.version, expiry=bundle.expiry, leg_hashes=[leg.leg_hash for leg in bundle.legs]
    )
    for index, (leg, offered) in enumerate(zip(bundle.legs, legs, strict=True)):
        trailer = offered.transaction.trailer
        if trailer is None or trailer != (identity, index, len(legs)) or offered.transaction.leg_hash != leg.leg_hash:
            raise InvalidSubmission(
                f"leg {index}: its trailer does not say that it is leg {index} of {len(legs)} of this bundle; were "
                "another expiry or other legs signed?"
            )
    senders = {(leg.network_id, leg.transaction.sender, leg.transaction.nonce) for leg in legs}
    if len(senders) < len(legs):
        raise InvalidSubmission("two legs have the same rollup, sender and nonce; such a bundle is void")
    return identity
