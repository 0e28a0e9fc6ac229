"""The input of the pessimistic program as bytes: what attesters and provers get from the host.

Every hash stands once in a table and is referred to by number, since proofs of one certificate share most of theirs:
an import takes less than a quarter of the bytes of its three proofs. The bytes are not canonical; nothing commits to
them. Layout, big-endian: "LkPI" | version u8 | u32 count, the table | the fields in the order of `encode_program`.
It knows no meaning of the fields; `nodes.rules.pessimistic` checks them.
"""

import struct
from collections.abc import Sequence
from itertools import chain

from nodes.model.agglayer import (
    NETWORK_LIMIT,
    SIGNATURE_BYTES,
    BridgeExit,
    CertificateHeight,
    CertificateId,
    Claim,
    GlobalIndex,
    ImportedBridgeExit,
    L1InfoLeaf,
    LeafType,
    MainnetClaim,
    MerkleProof,
    NetworkId,
    NetworkState,
    RollupClaim,
    TokenInfo,
)
from nodes.model.errors import InvalidInput
from nodes.model.ids import HASH_BYTES, Address
from nodes.rules.exit_tree import EXIT_TREE_DEPTH
from nodes.rules.pessimistic import BalanceWitness, Committee, ProgramInput, SingleSigner

MAGIC = b"LkPI"
VERSION = 1

_ADDRESS_BYTES = 20
_HEAD = struct.Struct(">4sBI")


class _Writer:
    """Fields in their order, and the table of the hashes that they refer to."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._parts: list[bytes] = []

    def number(self, value: int, size: int) -> None:
        """An unsigned integer. Raises OverflowError if it does not fit."""
        self._parts.append(value.to_bytes(size, "big"))

    def fixed(self, data: bytes, size: int) -> None:
        """Bytes whose size the reader knows."""
        if len(data) != size:
            raise ValueError(f"{size} bytes are expected, not {len(data)}")
        self._parts.append(data)

    def hashes(self, values: Sequence[bytes]) -> None:
        """Hashes whose count the reader knows."""
        numbers = self._numbers
        references = [numbers.setdefault(value, len(numbers)) for value in values]
        self._parts.append(struct.pack(f">{len(references)}I", *references))

    def path(self, values: Sequence[bytes]) -> None:
        """Up to 255 hashes with their count."""
        self.number(len(values), 1)
        self.hashes(values)

    def finished(self) -> bytes:
        """Everything. Raises ValueError if a hash was none."""
        table = b"".join(self._numbers)
        if any(len(value) != HASH_BYTES for value in self._numbers):
            raise ValueError(f"every hash must have {HASH_BYTES} bytes")
        return b"".join((_HEAD.pack(MAGIC, VERSION, len(self._numbers)), table, *self._parts))


class _Reader:
    """The counterpart. Raises ValueError, IndexError or struct.error where the bytes end or refer to nothing."""

    def __init__(self, data: bytes) -> None:
        magic, version, count = _HEAD.unpack_from(data)
        if magic != MAGIC or version != VERSION:
            raise ValueError(f"it does not begin with {MAGIC!r} and version {VERSION}")
        self._at = _HEAD.size + count * HASH_BYTES
        if self._at > len(data):
            raise ValueError(f"it ends within its table of {count:,} hashes")
        self._data = data
        self._table = [data[at : at + HASH_BYTES] for at in range(_HEAD.size, self._at, HASH_BYTES)]

    def fixed(self, size: int) -> bytes:
        self._at += size
        if self._at > len(self._data):
            raise ValueError("it ends too early")
        return self._data[self._at - size : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.fixed(size), "big")

    def flag(self) -> bool:
        value = self.number(1)
        if value > 1:
            raise ValueError(f"{value} stands for neither of two kinds")
        return value == 1

    def hashes(self, count: int) -> tuple[bytes, ...]:
        references = struct.unpack(f">{count}I", self.fixed(4 * count))
        return tuple(map(self._table.__getitem__, references))

    def hash(self) -> bytes:
        return self.hashes(1)[0]

    def path(self) -> tuple[bytes, ...]:
        return self.hashes(self.number(1))

    def address(self) -> Address:
        return Address(self.fixed(_ADDRESS_BYTES))

    def finish(self) -> None:
        if self._at != len(self._data):
            raise ValueError(f"{len(self._data) - self._at:,} bytes follow its end")


def encode_program(program: ProgramInput) -> bytes:
    """All fields. Raises OverflowError or ValueError for values that no certificate can hold."""
    writer = _Writer()
    state = program.state
    writer.number(state.leaf_count, 4)
    writer.hashes((*state.frontier, state.balance_root, state.nullifier_root))
    writer.number(program.network_id, 4)
    writer.number(program.height, 8)
    writer.hashes((program.prev_pessimistic_root, program.l1_info_root, program.certificate_id))
    writer.number(len(program.bridge_exits), 4)
    for bridge_exit in program.bridge_exits:
        _write_exit(writer, bridge_exit)
    writer.number(len(program.imported_bridge_exits), 4)
    for imported, siblings in zip(program.imported_bridge_exits, program.nullifier_siblings, strict=True):
        _write_exit(writer, imported.bridge_exit)
        _write_claim(writer, imported.claim)
        index = imported.global_index
        writer.number(index.is_mainnet, 1)
        writer.number(index.rollup_index, 4)
        writer.number(index.leaf_index, 4)
        writer.path(siblings)
    writer.number(len(program.balances), 4)
    for balance in program.balances:
        _write_token(writer, balance.token)
        writer.number(balance.balance, 32)
        writer.path(balance.siblings)
    _write_authorization(writer, program.authorization)
    return writer.finished()


def decode_program(data: bytes) -> ProgramInput:
    """The inverse of `encode_program`. Raises InvalidInput; memory is bounded by the size of `data`."""
    try:
        reader = _Reader(data)
        program = _read_program(reader)
        reader.finish()
    except (ValueError, IndexError, struct.error) as error:
        raise InvalidInput(f"input of the pessimistic program, {len(data):,} bytes: {error}") from error
    return program


def _read_program(reader: _Reader) -> ProgramInput:
    state = NetworkState(reader.number(4), reader.hashes(EXIT_TREE_DEPTH), reader.hash(), reader.hash())
    network_id, height = NetworkId(reader.number(4)), CertificateHeight(reader.number(8))
    prev_pessimistic_root, l1_info_root, certificate_id = reader.hashes(3)
    bridge_exits = tuple(_read_exit(reader) for _ in range(reader.number(4)))
    imports = [_read_import(reader) for _ in range(reader.number(4))]
    balances = tuple(
        BalanceWitness(token=_read_token(reader), balance=reader.number(32), siblings=reader.path())
        for _ in range(reader.number(4))
    )
    return ProgramInput(
        state=state,
        network_id=network_id,
        height=height,
        prev_pessimistic_root=prev_pessimistic_root,
        l1_info_root=l1_info_root,
        bridge_exits=bridge_exits,
        imported_bridge_exits=tuple(imported for imported, _ in imports),
        nullifier_siblings=tuple(siblings for _, siblings in imports),
        balances=balances,
        authorization=_read_authorization(reader),
        certificate_id=CertificateId(certificate_id),
    )


def _write_token(writer: _Writer, token: TokenInfo) -> None:
    writer.number(token.origin_network, 4)
    writer.fixed(token.origin_token_address, _ADDRESS_BYTES)


def _read_token(reader: _Reader) -> TokenInfo:
    return TokenInfo(NetworkId(reader.number(4)), reader.address())


def _write_exit(writer: _Writer, bridge_exit: BridgeExit) -> None:
    writer.number(bridge_exit.leaf_type, 1)
    _write_token(writer, bridge_exit.token)
    writer.number(bridge_exit.dest_network, 4)
    writer.fixed(bridge_exit.dest_address, _ADDRESS_BYTES)
    writer.number(bridge_exit.amount, 32)
    writer.path(() if bridge_exit.metadata_hash is None else (bridge_exit.metadata_hash,))


def _read_exit(reader: _Reader) -> BridgeExit:
    leaf_type, token = LeafType(reader.number(1)), _read_token(reader)
    dest_network, dest_address, amount = NetworkId(reader.number(4)), reader.address(), reader.number(32)
    metadata = reader.path()
    if len(metadata) > 1:
        raise ValueError(f"an exit has {len(metadata)} metadata hashes")
    return BridgeExit(
        leaf_type=leaf_type,
        token=token,
        dest_network=dest_network,
        dest_address=dest_address,
        amount=amount,
        metadata_hash=metadata[0] if metadata else None,
    )


def _write_claim(writer: _Writer, claim: Claim) -> None:
    is_rollup = isinstance(claim, RollupClaim)
    writer.number(is_rollup, 1)
    proofs = (claim.leaf_to_mer,) if isinstance(claim, MainnetClaim) else (claim.leaf_to_ler, claim.ler_to_rer)
    for proof in chain(proofs, (claim.ger_to_l1_root,)):
        writer.path((proof.root, *proof.siblings))
    leaf = claim.l1_leaf
    writer.number(leaf.l1_info_tree_index, 4)
    writer.number(leaf.timestamp_s, 8)
    writer.hashes((leaf.rollup_exit_root, leaf.mainnet_exit_root, leaf.global_exit_root, leaf.block_hash))


def _read_proof(reader: _Reader) -> MerkleProof:
    path = reader.path()
    if not path:
        raise ValueError("a Merkle proof has no root")
    return MerkleProof(path[0], path[1:])


def _read_claim(reader: _Reader) -> Claim:
    is_rollup = reader.flag()
    proofs = [_read_proof(reader) for _ in range(3 if is_rollup else 2)]
    index, timestamp_s = reader.number(4), reader.number(8)
    rollup_root, mainnet_root, global_root, block_hash = reader.hashes(4)
    leaf = L1InfoLeaf(
        l1_info_tree_index=index,
        rollup_exit_root=rollup_root,
        mainnet_exit_root=mainnet_root,
        global_exit_root=global_root,
        block_hash=block_hash,
        timestamp_s=timestamp_s,
    )
    if is_rollup:
        return RollupClaim(leaf_to_ler=proofs[0], ler_to_rer=proofs[1], ger_to_l1_root=proofs[2], l1_leaf=leaf)
    return MainnetClaim(leaf_to_mer=proofs[0], ger_to_l1_root=proofs[1], l1_leaf=leaf)


def _read_import(reader: _Reader) -> tuple[ImportedBridgeExit, tuple[bytes, ...]]:
    bridge_exit, claim = _read_exit(reader), _read_claim(reader)
    index = GlobalIndex(reader.flag(), reader.number(4), reader.number(4))
    if index.rollup_index == NETWORK_LIMIT - 1 or (index.is_mainnet and index.rollup_index):
        raise ValueError(f"{index} is not canonical")
    return ImportedBridgeExit(bridge_exit=bridge_exit, claim=claim, global_index=index), reader.path()


def _write_authorization(writer: _Writer, authorization: SingleSigner | Committee) -> None:
    is_committee = isinstance(authorization, Committee)
    writer.number(is_committee, 1)
    if isinstance(authorization, SingleSigner):
        writer.fixed(authorization.signer, _ADDRESS_BYTES)
        writer.fixed(authorization.signature, SIGNATURE_BYTES)
        return
    writer.number(authorization.threshold, 4)
    writer.number(len(authorization.signers), 2)
    for signer in authorization.signers:
        writer.fixed(signer, _ADDRESS_BYTES)
    writer.number(len(authorization.signatures), 2)
    for signature in authorization.signatures:
        writer.number(signature is not None, 1)
        if signature is not None:
            writer.fixed(signature, SIGNATURE_BYTES)


def _read_authorization(reader: _Reader) -> SingleSigner | Committee:
    if not reader.flag():
        return SingleSigner(signer=reader.address(), signature=reader.fixed(SIGNATURE_BYTES))
    threshold = reader.number(4)
    signers = tuple(reader.address() for _ in range(reader.number(2)))
    signatures = tuple(reader.fixed(SIGNATURE_BYTES) if reader.flag() else None for _ in range(reader.number(2)))
    return Committee(signatures=signatures, signers=signers, threshold=threshold)
