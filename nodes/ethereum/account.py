"""An account on L1: the one place that signs L1 transactions. Knows no network; nonces and fees are its caller's."""

from dataclasses import dataclass

from coincurve import PrivateKey

from nodes.model.ids import Address, TxHash
from nodes.rules.hashes import keccak256
from nodes.rules.payload import UnsignedTransaction, address_of, sign

GWEI = 10**9
REPLACEMENT_PERCENT = 110
"""A pool takes a replacement only when both fees are a tenth higher (geth's rule)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fees:
    """Of an EIP-1559 transaction, in wei per gas."""

    max_fee_wei: int
    priority_fee_wei: int

    @classmethod
    def above(cls, base_fee_wei: int, *, priority_fee_wei: int = GWEI) -> "Fees":
        """Enough while the base fee at most doubles."""
        return cls(max_fee_wei=2 * base_fee_wei + priority_fee_wei, priority_fee_wei=priority_fee_wei)

    def raised(self) -> "Fees":
        """The least fees with which a pool takes a replacement."""
        return Fees(
            max_fee_wei=-(-self.max_fee_wei * REPLACEMENT_PERCENT // 100),
            priority_fee_wei=-(-self.priority_fee_wei * REPLACEMENT_PERCENT // 100),
        )

    def at_least(self, other: "Fees") -> "Fees":
        """The higher of each."""
        return Fees(
            max_fee_wei=max(self.max_fee_wei, other.max_fee_wei),
            priority_fee_wei=max(self.priority_fee_wei, other.priority_fee_wei),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedTransaction:
    """What is sent, and the hash it will be found by."""

    raw: bytes
    hash: TxHash
    nonce: int


class L1Account:
    """A key with its chain."""

    def __init__(self, key: PrivateKey, *, chain_id: int) -> None:
        self._key = key
        self._chain_id = chain_id
        self.address: Address = address_of(key)

    @classmethod
    def of_hex(cls, key: str, *, chain_id: int) -> "L1Account":
        """From a key in hex, with or without 0x."""
        return cls(PrivateKey(bytes.fromhex(key.removeprefix("0x"))), chain_id=chain_id)

    def sign_call(
        self, *, to: bytes, calldata: bytes, nonce: int, gas_limit: int, fees: Fees, value_wei: int = 0
    ) -> SignedTransaction:
        """A signed type 2 transaction. Equal arguments give equal bytes."""
        raw = sign(
            UnsignedTransaction(
                chain_id=self._chain_id,
                nonce=nonce,
                gas_limit=gas_limit,
                max_fee_per_gas=fees.max_fee_wei,
                max_priority_fee_per_gas=fees.priority_fee_wei,
                to=to,
                value=value_wei,
                calldata=calldata,
            ),
            self._key,
        )
        return SignedTransaction(raw=raw, hash=TxHash(keccak256(raw)), nonce=nonce)
