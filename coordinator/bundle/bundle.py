"""A bundle on its way from an idea to bytes: unsigned, partly signed, signed. A value; signing gives a new one.

It serialises to JSON at any stage, so that several signers can pass it on. Reading it back checks everything that a
signature covers, so that nobody signs a leg that does not belong to the bundle they see.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from coincurve import PrivateKey

from coordinator.bundle.legs import LegSpec, bytes_of
from nodes.model.bundle import BUNDLE_VERSION, Leg, Trailer
from nodes.model.bundle import Bundle as Submission
from nodes.model.errors import InvalidInput, LimitExceeded
from nodes.model.execution import DropReason
from nodes.model.ids import Address, BundleHash, LegHash, SubmissionHash, TxHash, hex_of, rollup_id_of
from nodes.model.json_form import from_json, to_json
from nodes.model.limits import MAX_LEGS_PER_BUNDLE
from nodes.ports import Ticket
from nodes.rules.bundle import bundle_hash
from nodes.rules.hashes import keccak256, sha256
from nodes.rules.payload import UnsignedTransaction, address_of, decode, sign
from nodes.wire.bundles import bundle_to_bytes

FORMAT = 1
_MIN_LEGS = 2


class Submitter(Protocol):
    """Takes signed bundles; `Client` is one."""

    async def send(self, submission: bytes) -> Ticket:
        """Hand in serialized bundle bytes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleLeg:
    """One leg: what its sender signs, and the signed transaction once it exists."""

    transaction: UnsignedTransaction
    sender: Address
    payload: bytes = b""
    """The signed transaction with its trailer; empty before it is signed."""

    @property
    def leg_hash(self) -> LegHash:
        """Commits to everything the sender signs except the trailer."""
        return self.transaction.leg_hash(self.sender)

    @property
    def tx_hash(self) -> TxHash | None:
        """Hash that wallets show; None before the leg is signed."""
        return TxHash(keccak256(self.payload)) if self.payload else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Ordered legs that execute in one sequenced height, all or none of them admitted."""

    expiry: int
    """Last sequenced height at which it may execute; 0 = none."""
    legs: tuple[BundleLeg, ...]

    @classmethod
    def build(cls, legs: Iterable[LegSpec | Mapping[str, Any]], *, expiry: int = 0) -> "Bundle":
        """An unsigned bundle from complete legs: chain id, gas, nonce. `Client.build` fills in what is missing.

        Raises InvalidInput, UnknownName, LimitExceeded.
        """
        built = []
        for number, leg in enumerate(legs, start=1):
            spec = LegSpec.of(leg, where=f"leg {number}")
            if not isinstance(spec.rollup, int):
                raise InvalidInput(f"leg {number}: rollup {spec.rollup!r} is a name; only Client.build can look it up")
            if spec.gas is None or spec.nonce is None:
                missing = "gas" if spec.gas is None else "nonce"
                raise InvalidInput(
                    f"leg {number} has no {missing}; give it, or use Client.build, which asks the rollup"
                )
            transaction = UnsignedTransaction(
                tx_type=spec.tx_type,
                chain_id=spec.rollup,
                nonce=spec.nonce,
                gas_limit=spec.gas,
                max_fee_per_gas=spec.max_fee_per_gas,
                max_priority_fee_per_gas=spec.max_priority_fee_per_gas,
                to=spec.to,
                value=spec.value,
                calldata=spec.data,
            )
            built.append(BundleLeg(transaction=transaction, sender=spec.sender))
        bundle = cls(expiry=expiry, legs=tuple(built))
        bundle._check()
        return bundle

    def _check(self) -> None:
        """What would make every reader drop the bundle is refused before anybody signs it."""
        if len(self.legs) < _MIN_LEGS:
            raise InvalidInput("a bundle has at least 2 legs; a transaction that travels alone needs no bundle")
        if len(self.legs) > MAX_LEGS_PER_BUNDLE:
            raise LimitExceeded(limit="MAX_LEGS_PER_BUNDLE", value=len(self.legs), maximum=MAX_LEGS_PER_BUNDLE)
        if not 0 <= self.expiry < 2**64:
            raise InvalidInput(f"expiry {self.expiry} must be 0 to 2**64 - 1")
        chains = [leg.transaction.chain_id for leg in self.legs]
        used = {(leg.transaction.chain_id, leg.sender, leg.transaction.nonce) for leg in self.legs}
        if len(used) < len(self.legs):
            raise InvalidInput("two legs have the same rollup, sender and nonce; each needs a nonce of its own")
        if len([at for at, chain in enumerate(chains) if at == 0 or chains[at - 1] != chain]) != len(set(chains)):
            raise InvalidInput("legs of one rollup must follow each other; reorder them")

    @property
    def hash(self) -> BundleHash:
        """What every leg's trailer names."""
        return bundle_hash(version=BUNDLE_VERSION, expiry=self.expiry, leg_hashes=[leg.leg_hash for leg in self.legs])

    @property
    def missing_signers(self) -> tuple[Address, ...]:
        """Senders of legs that are not signed yet, in leg order."""
        return tuple(dict.fromkeys(leg.sender for leg in self.legs if not leg.payload))

    @property
    def submission(self) -> bytes:
        """The bytes to send; sending them twice is harmless. Raises InvalidInput while a signature is missing."""
        if self.missing_signers:
            raise InvalidInput(f"not signed by {', '.join(hex_of(sender) for sender in self.missing_signers)}")
        legs = tuple(
            Leg(rollup_id=rollup_id_of(leg.transaction.chain_id), payload=leg.payload, leg_hash=leg.leg_hash)
            for leg in self.legs
        )
        return bundle_to_bytes(Submission(version=BUNDLE_VERSION, expiry=self.expiry, legs=legs))

    @property
    def submission_hash(self) -> SubmissionHash:
        """SHA-256 of `submission`."""
        return SubmissionHash(sha256(self.submission))

    def sign(self, key: PrivateKey | bytes | str) -> "Bundle":
        """The bundle with every leg signed that this key's account sends. `key` is 32 bytes or hex.

        Raises InvalidInput where the account sends no leg.
        """
        private = _private_key(key)
        own = address_of(private)
        if all(leg.sender != own for leg in self.legs):
            raise InvalidInput(f"{hex_of(own)} sends no leg of this bundle; senders are "
                               f"{', '.join(dict.fromkeys(hex_of(leg.sender) for leg in self.legs))}")  # fmt: skip
        named = self.hash
        legs = [
            replace(leg, payload=sign(leg.transaction, private, Trailer(named, index, len(self.legs))))
            if leg.sender == own
            else leg
            for index, leg in enumerate(self.legs)
        ]
        return replace(self, legs=tuple(legs))

    async def submit(self, client: Submitter) -> Ticket:
        """Hand it in; durable when this returns. Raises InvalidInput (unsigned, refused), Overloaded, Unavailable."""
        ticket = await client.send(self.submission)
        if not ticket.accepted:
            raise InvalidInput(f"the sequencer refused bundle {hex_of(self.hash)}: {ticket.reason}")
        return ticket

    def to_json(self) -> str:
        """Text that `from_json` reads; signed or not."""
        document = {"format": FORMAT, "bundle_hash": hex_of(self.hash), **to_json(self)}
        return json.dumps(document, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Bundle":
        """Read a bundle and check hash and signatures. Raises InvalidInput."""
        try:
            document = json.loads(text)
        except ValueError as error:
            raise InvalidInput(f"this is not a bundle: {error}") from error
        if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
            raise InvalidInput(f"this is not a bundle of format {FORMAT}")
        claimed = bytes_of(document.pop("bundle_hash", ""))
        bundle = from_json(cls, document, where="bundle")
        bundle._check()
        if claimed != bundle.hash:
            raise InvalidInput(f"the legs hash to {hex_of(bundle.hash)}, but the file says {hex_of(claimed)}")
        for index, leg in enumerate(bundle.legs):
            if leg.payload:
                _check_signed(leg, Trailer(bundle.hash, index, len(bundle.legs)))
        return bundle


def _check_signed(leg: BundleLeg, trailer: Trailer) -> None:
    number = trailer.leg_index + 1
    decoded = decode(leg.payload, leg.transaction.chain_id)
    if isinstance(decoded, DropReason):
        raise InvalidInput(f"the signed payload of leg {number} would be dropped: {decoded.name.lower()}")
    if (decoded.leg_hash, decoded.trailer) != (leg.leg_hash, trailer):
        raise InvalidInput(f"the signed payload of leg {number} is of another leg or another bundle")


def _private_key(key: PrivateKey | bytes | str) -> PrivateKey:
    if isinstance(key, PrivateKey):
        return key
    secret = bytes_of(key)
    if len(secret) != 32:
        raise InvalidInput(f"a private key has 32 bytes, not {len(secret)}")
    try:
        return PrivateKey(secret)
    except ValueError as error:
        raise InvalidInput(f"this is no private key: {error}") from error
