"""The bytes in which a certifier keeps exits, fates, balances and the edge of its exit tree. No I/O, no rule."""

import struct
from collections.abc import Iterable, Iterator, Mapping

from nodes.model.agglayer import BridgeExit, LeafType, NetworkId, TokenInfo
from nodes.model.execution import LegOutcome, Status
from nodes.model.ids import Address, BundleHash, Height
from nodes.model.verdict import SignedVerdict
from nodes.rules.exit_tree import EMPTY_METADATA_HASH, ExitFrontier

_EXIT = struct.Struct(">BI20sI20s32s32s")
_OUTCOME = struct.Struct(">32sBQB")
_BALANCE = struct.Struct(">I20s32s")
_SIGNATURE_BYTES = 65
_NODE_BYTES = 32


def pack_exit(bridge_exit: BridgeExit) -> bytes:
    """113 bytes."""
    return _EXIT.pack(
        bridge_exit.leaf_type,
        *bridge_exit.token,
        bridge_exit.dest_network,
        bridge_exit.dest_address,
        bridge_exit.amount.to_bytes(32, "big"),
        EMPTY_METADATA_HASH if bridge_exit.metadata_hash is None else bridge_exit.metadata_hash,
    )


def unpack_exit(packed: bytes) -> BridgeExit:
    """The inverse; an absent metadata hash comes back as that of no bytes, which is the same leaf."""
    leaf_type, origin, token, network, address, amount, metadata = _EXIT.unpack(packed)
    return BridgeExit(
        leaf_type=LeafType(leaf_type),
        token=TokenInfo(NetworkId(origin), Address(token)),
        dest_network=NetworkId(network),
        dest_address=Address(address),
        amount=int.from_bytes(amount, "big"),
        metadata_hash=metadata,
    )


def pack_outcomes(outcomes: Iterable[LegOutcome]) -> bytes:
    """42 bytes each."""
    return b"".join([_OUTCOME.pack(*outcome) for outcome in outcomes])


def unpack_outcomes(packed: bytes) -> Iterator[LegOutcome]:
    """The inverse."""
    for bundle, leg, height, status in _OUTCOME.iter_unpack(packed):
        yield LegOutcome(BundleHash(bundle), leg, Height(height), Status(status))


def pack_verdict(verdict: SignedVerdict | None) -> bytes:
    """Signature, then verdict; no bytes where there is none."""
    return b"" if verdict is None else verdict.signature + verdict.verdict


def unpack_verdict(packed: bytes) -> SignedVerdict | None:
    """The inverse."""
    return SignedVerdict(packed[_SIGNATURE_BYTES:], packed[:_SIGNATURE_BYTES]) if packed else None


def pack_balances(balances: Mapping[TokenInfo, int]) -> bytes:
    """56 bytes for each token."""
    return b"".join([_BALANCE.pack(*token, amount.to_bytes(32, "big")) for token, amount in balances.items()])


def unpack_balances(packed: bytes) -> dict[TokenInfo, int]:
    """The inverse."""
    return {
        TokenInfo(NetworkId(network), Address(address)): int.from_bytes(amount, "big")
        for network, address, amount in _BALANCE.iter_unpack(packed)
    }


def pack_frontier(frontier: ExitFrontier) -> bytes:
    """Its nodes; the leaf count is kept beside them."""
    return b"".join(frontier.nodes)


def unpack_frontier(packed: bytes, leaf_count: int) -> ExitFrontier:
    """The inverse."""
    nodes = [packed[at : at + _NODE_BYTES] for at in range(0, len(packed), _NODE_BYTES)]
    return ExitFrontier(leaf_count, nodes)
