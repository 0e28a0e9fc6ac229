"""Accepted payloads: decoding, signer recovery, leg hash, and the signing counterpart.

Total over byte strings: `decode` returns a `Transaction` or the `DropReason`. Sources: EIP-155, EIP-2718, EIP-2930,
EIP-1559, EIP-2681 (nonce bound), EIP-2 (low s). Acceptance is at least as strict as any engine's own decoder, so
that no derived list is refused whole.

`decode` is the hottest rule of a node: fields are kept as slices of the payload, so the signing hash and the leg
hash need no re-encoding, and recovery calls libsecp256k1 directly with buffers of its own thread (the binding
releases the interpreter lock).
"""

import threading
from dataclasses import dataclass
from typing import Any

from coincurve import PrivateKey
from coincurve._libsecp256k1 import ffi, lib  # type: ignore[import-not-found]
from coincurve.context import GLOBAL_CONTEXT

from nodes.model.bundle import Trailer
from nodes.model.execution import DropReason, Transaction
from nodes.model.ids import Address, BundleHash, LegHash, TxHash
from nodes.rules import rlp
from nodes.rules.hashes import keccak256

TRAILER_MAGIC = b"LkS1"
TRAILER_BYTES = 32 + 1 + 1 + len(TRAILER_MAGIC)

SECP256K1_N = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
_HALF_N = SECP256K1_N // 2
_MAX_NONCE = 2**64 - 2
_EMPTY_LIST_HASH = keccak256(b"\xc0")
_LEGACY_FIELDS = 9
_FIELDS = {1: 11, 2: 12}


class _Scratch(threading.local):
    """Recovery buffers of one thread; shared ones gave wrong senders under threads."""

    def __init__(self) -> None:
        self.signature = ffi.new("secp256k1_ecdsa_recoverable_signature *")
        self.public_key = ffi.new("secp256k1_pubkey *")
        self.output = ffi.new("unsigned char[65]")
        self.view: Any = ffi.buffer(self.output)
        self.length = ffi.new("size_t *")


_scratch = _Scratch()
_UNCOMPRESSED = 2


def recover(*, digest: bytes, signature: bytes, parity: int) -> Address | None:
    """Address that signed `digest` (32 bytes); `signature` is r || s (64 bytes). None where no key fits."""
    scratch = _scratch
    context = GLOBAL_CONTEXT.ctx
    if not lib.secp256k1_ecdsa_recoverable_signature_parse_compact(context, scratch.signature, signature, parity):
        return None
    if not lib.secp256k1_ecdsa_recover(context, scratch.public_key, scratch.signature, digest):
        return None
    scratch.length[0] = 65
    lib.secp256k1_ec_pubkey_serialize(context, scratch.output, scratch.length, scratch.public_key, _UNCOMPRESSED)
    return Address(keccak256(scratch.view[1:65])[12:])


class _Refused(Exception):
    def __init__(self, reason: DropReason) -> None:
        super().__init__(reason)
        self.reason = reason


_MALFORMED = DropReason.MALFORMED


def decode(payload: bytes, chain_id: int) -> Transaction | DropReason:
    """Decode one payload of the rollup with `chain_id`, or say why derivation drops it."""
    if not payload:
        return _MALFORMED
    try:
        first = payload[0]
        if first >= 0xC0:
            return _decode_legacy(payload, chain_id)
        if first in _FIELDS:
            return _decode_typed(payload, first, chain_id)
    except rlp.RlpError:
        return _MALFORMED
    except _Refused as refused:
        return refused.reason
    return DropReason.UNSUPPORTED_TYPE if first < 0x80 else _MALFORMED


def _integer(data: bytes, item: tuple[int, int, int, bool], bits: int) -> int:
    _, start, stop, is_list = item
    if is_list or stop - start > bits // 8 or (stop > start and data[start] == 0):
        raise _Refused(_MALFORMED)
    return int.from_bytes(data[start:stop], "big")


def _string(data: bytes, item: tuple[int, int, int, bool]) -> bytes:
    if item[3]:
        raise _Refused(_MALFORMED)
    return data[item[1] : item[2]]


def _decode_typed(payload: bytes, tx_type: int, chain_id: int) -> Transaction:
    items = rlp.split(payload, 1)
    if len(items) != _FIELDS[tx_type]:
        raise _Refused(_MALFORMED)
    fees = items[2:4] if tx_type == 2 else [items[2], items[2]]
    tail = items[4:] if tx_type == 2 else items[3:]
    gas_limit, to, value, data, access_list, parity, r, s = tail
    access_hash = _access_list_hash(payload, access_list)
    y_parity = _integer(payload, parity, 8)
    body = payload[items[0][0] : access_list[2]]
    digest = keccak256(payload[:1] + rlp.encode_length(len(body), offset=0xC0) + body)
    claimed = _integer(payload, items[0], 64)
    return _finish(
        payload,
        tx_type,
        claimed,
        chain_id,
        items[1],
        fees,
        gas_limit,
        to,
        value,
        data,
        access_hash,
        y_parity,
        r,
        s,
        digest,
    )


def _decode_legacy(payload: bytes, chain_id: int) -> Transaction:
    items = rlp.split(payload, 0)
    if len(items) != _LEGACY_FIELDS:
        raise _Refused(_MALFORMED)
    nonce, price, gas_limit, to, value, data, v_item, r, s = items
    v = _integer(payload, v_item, 72)
    if v < 35:
        raise _Refused(DropReason.UNSUPPORTED_TYPE if v in (27, 28) else _MALFORMED)
    claimed, y_parity = divmod(v - 35, 2)
    body = payload[nonce[0] : data[2]] + rlp.encode_int(claimed) + b"\x80\x80"
    digest = keccak256(rlp.encode_length(len(body), offset=0xC0) + body)
    return _finish(
        payload,
        0,
        claimed,
        chain_id,
        nonce,
        [price, price],
        gas_limit,
        to,
        value,
        data,
        _EMPTY_LIST_HASH,
        y_parity,
        r,
        s,
        digest,
    )


_Span = tuple[int, int, int, bool]


def _finish(
    payload: bytes,
    tx_type: int,
    claimed: int,
    chain_id: int,
    nonce: _Span,
    fees: list[_Span],
    gas_limit: _Span,
    to: _Span,
    value: _Span,
    data: _Span,
    access_hash: bytes,
    y_parity: int,
    r: _Span,
    s: _Span,
    digest: bytes,
) -> Transaction:
    priority, maximum = fees
    fields = (
        tx_type,
        claimed,
        _integer(payload, nonce, 64),
        _integer(payload, gas_limit, 64),
        _integer(payload, maximum, 128),
        _integer(payload, priority, 128),
        _string(payload, to),
        _integer(payload, value, 256),
        _string(payload, data),
    )
    if len(fields[6]) not in (0, 20) or fields[2] > _MAX_NONCE:
        raise _Refused(_MALFORMED)
    if claimed != chain_id:
        raise _Refused(DropReason.WRONG_CHAIN)
    sender = _signer(payload, digest, y_parity, r, s)
    trailer = trailer_of(fields[8])
    leg = None
    if trailer is not None:
        leg = LegHash(
            keccak256(
                rlp.encode_list(
                    (
                        rlp.encode_int(tx_type),
                        rlp.encode_int(claimed),
                        b"\x94" + sender,
                        payload[nonce[0] : nonce[2]],
                        payload[to[0] : to[2]],
                        payload[value[0] : value[2]],
                        payload[gas_limit[0] : gas_limit[2]],
                        payload[maximum[0] : maximum[2]],
                        payload[priority[0] : priority[2]],
                        b"\xa0" + access_hash,
                        b"\xa0" + keccak256(fields[8][:-TRAILER_BYTES]),
                    )
                )
            )
        )
    return Transaction(*fields, sender, TxHash(keccak256(payload)), trailer, leg)


def _signer(payload: bytes, digest: bytes, y_parity: int, r: _Span, s: _Span) -> Address:
    r_value, s_value = _integer(payload, r, 256), _integer(payload, s, 256)
    if y_parity > 1 or not 0 < r_value < SECP256K1_N or not 0 < s_value <= _HALF_N:
        raise _Refused(DropReason.BAD_SIGNATURE)
    signature = r_value.to_bytes(32, "big") + s_value.to_bytes(32, "big")
    sender = recover(digest=digest, signature=signature, parity=y_parity)
    if sender is None:
        raise _Refused(DropReason.BAD_SIGNATURE)
    return sender


def _access_list_hash(payload: bytes, item: _Span) -> bytes:
    """keccak256 of the access list's encoding after a check of its shape: [[address, [slot, ...]], ...]."""
    begin, at, stop, is_list = item
    if not is_list:
        raise _Refused(_MALFORMED)
    if at == stop:
        return _EMPTY_LIST_HASH
    while at < stop:
        entry, entry_stop, entry_is_list = rlp.header(payload, at, stop)
        if not entry_is_list:
            raise _Refused(_MALFORMED)
        address, keys_at, address_is_list = rlp.header(payload, entry, entry_stop)
        key, keys_stop, keys_is_list = rlp.header(payload, keys_at, entry_stop)
        if address_is_list or keys_at - address != 20 or not keys_is_list or keys_stop != entry_stop:
            raise _Refused(_MALFORMED)
        while key < keys_stop:
            slot, key, slot_is_list = rlp.header(payload, key, keys_stop)
            if slot_is_list or key - slot != 32:
                raise _Refused(_MALFORMED)
        at = entry_stop
    return keccak256(payload[begin:stop])


def trailer_of(calldata: bytes) -> Trailer | None:
    """The trailer at the end of a calldata, or None."""
    if len(calldata) < TRAILER_BYTES or not calldata.endswith(TRAILER_MAGIC):
        return None
    tail = calldata[-TRAILER_BYTES:]
    return Trailer(BundleHash(tail[:32]), tail[32], tail[33])


def encode_trailer(trailer: Trailer) -> bytes:
    """The 38 bytes that end a leg's calldata."""
    return trailer.bundle_hash + bytes((trailer.leg_index, trailer.leg_count)) + TRAILER_MAGIC


AccessList = tuple[tuple[bytes, tuple[bytes, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsignedTransaction:
    """The fields a sender signs. Types 0 and 1 carry their gas price in both fee fields, type 0 no access list."""

    tx_type: int = 2
    chain_id: int
    nonce: int
    gas_limit: int
    max_fee_per_gas: int = 0
    max_priority_fee_per_gas: int = 0
    to: bytes
    """20 bytes, or empty for a creation."""
    value: int = 0
    calldata: bytes = b""
    """Without trailer."""
    access_list: AccessList = ()

    def leg_hash(self, sender: bytes) -> LegHash:
        """Commits to everything the sender signs except the trailer."""
        integer, string = rlp.encode_int, rlp.encode_bytes
        fields = (
            integer(self.tx_type),
            integer(self.chain_id),
            string(sender),
            integer(self.nonce),
            string(self.to),
            integer(self.value),
            integer(self.gas_limit),
            integer(self.max_fee_per_gas),
            integer(self.max_priority_fee_per_gas),
            string(keccak256(rlp.encode(self.access_list))),
            string(keccak256(self.calldata)),
        )
        return LegHash(keccak256(rlp.encode_list(fields)))


def sign(transaction: UnsignedTransaction, key: PrivateKey, trailer: Trailer | None = None) -> bytes:
    """The signed payload, with the trailer appended to the calldata where one is given. Deterministic (RFC 6979)."""
    integer, string = rlp.encode_int, rlp.encode_bytes
    calldata = transaction.calldata if trailer is None else transaction.calldata + encode_trailer(trailer)
    call = (
        integer(transaction.gas_limit),
        string(transaction.to),
        integer(transaction.value),
        string(calldata),
    )
    price = integer(transaction.max_fee_per_gas)
    chain, nonce = integer(transaction.chain_id), integer(transaction.nonce)
    if transaction.tx_type == 0:
        unsigned = (nonce, price, *call)
        digest = keccak256(rlp.encode_list((*unsigned, chain, b"\x80\x80")))
        r, s, parity = _sign_digest(digest, key)
        return rlp.encode_list((*unsigned, integer(35 + 2 * transaction.chain_id + parity), integer(r), integer(s)))
    prices = (price,) if transaction.tx_type == 1 else (integer(transaction.max_priority_fee_per_gas), price)
    unsigned = (chain, nonce, *prices, *call, rlp.encode(transaction.access_list))
    envelope = bytes((transaction.tx_type,))
    r, s, parity = _sign_digest(keccak256(envelope + rlp.encode_list(unsigned)), key)
    return envelope + rlp.encode_list((*unsigned, integer(parity), integer(r), integer(s)))


def _sign_digest(digest: bytes, key: PrivateKey) -> tuple[int, int, int]:
    signature = key.sign_recoverable(digest, hasher=None)
    return int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big"), signature[64]


def address_of(key: PrivateKey) -> Address:
    """The account that `key` signs for."""
    return Address(keccak256(key.public_key.format(compressed=False)[1:])[12:])
