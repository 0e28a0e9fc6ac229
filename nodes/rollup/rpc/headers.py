"""Makes the header of a block again from the node's own index, and proves it right: it must hash to the block's hash.

An engine forgets old headers, and answers none while it is replaced; the index has all of a header that is not the same
in every block. What is the same is what anvil 1.7 writes; a header of another engine is taken as it is, if it hashes.

Sources: Ethereum Yellow Paper, appendix D (the trie of an ordered list) and section 4.4 (headers); EIP-1559, EIP-4399,
EIP-4788, EIP-4844, EIP-4895, EIP-7685.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from nodes.model.errors import EngineFailure
from nodes.model.execution import RollupParams
from nodes.model.ids import hex_of
from nodes.rollup.records import IndexedBlock
from nodes.rollup.rpc.forms import Json, encode_header, header_fields
from nodes.rules import rlp
from nodes.rules.hashes import keccak256, sha256

_WORD = bytes(32)
_EMPTY_TRIE = keccak256(b"\x80")
_EMPTY_LIST = keccak256(b"\xc0")
_NO_REQUESTS = sha256(b"")
_HASH_REFERENCE_BYTES = 32
"""A node of a trie stands in its parent by hash from this length on, and itself below."""


def rebuilt_header(block: IndexedBlock, params: RollupParams) -> Json | None:
    """The header in JSON form; None where the fields known here do not hash to the block's hash."""
    mix_hash = _WORD
    if block.number:
        # Takes the place of randomness: the same for all engines that build the same chain.
        mix_hash = keccak256(block.parent_hash + block.number.to_bytes(8, "little"))
    header = {
        "parentHash": hex_of(block.parent_hash),
        "sha3Uncles": hex_of(_EMPTY_LIST),
        "miner": hex_of(params.coinbase),
        "stateRoot": hex_of(block.state_root),
        "transactionsRoot": hex_of(ordered_trie_root(block.payload_list())),
        "receiptsRoot": hex_of(block.receipts_root),
        "logsBloom": hex_of(block.logs_bloom),
        "difficulty": "0x0",
        "number": hex(block.number),
        "gasLimit": hex(params.block_gas_limit),
        "gasUsed": hex(block.gas_used),
        "timestamp": hex(block.timestamp_s),
        "extraData": "0x",
        "mixHash": hex_of(mix_hash),
        "nonce": "0x" + "00" * 8,
        "baseFeePerGas": "0x0",
        "withdrawalsRoot": hex_of(_EMPTY_TRIE),
        "blobGasUsed": "0x0",
        "excessBlobGas": "0x0",
        "parentBeaconBlockRoot": hex_of(_WORD),
        "requestsHash": hex_of(_NO_REQUESTS),
    }
    return header if keccak256(encode_header(header)) == block.hash else None


def checked_header(header: Any, block: IndexedBlock) -> Json:
    """The header fields of a block that an engine gave. Raises EngineFailure unless they hash to the block's hash."""
    if not isinstance(header, Mapping) or keccak256(encode_header(header)) != block.hash:
        raise EngineFailure(
            f"the engine gives no header of block {block.number} {hex_of(block.hash)} that hashes to it"
        )
    return header_fields(header)


def ordered_trie_root(values: Sequence[bytes]) -> bytes:
    """Root of the trie from the RLP of an index to the value at it, as in headers."""
    items = sorted((rlp.encode_int(index).hex(), value) for index, value in enumerate(values))
    return keccak256(_node(items, 0)) if items else _EMPTY_TRIE


def _node(items: Sequence[tuple[str, bytes]], depth: int) -> bytes:
    """The RLP of the node under which these (nibbles, value) pairs stand; they are sorted and agree before `depth`."""
    first, value = items[0]
    if len(items) == 1:
        return rlp.encode_list([rlp.encode_bytes(_path(first[depth:], is_leaf=True)), rlp.encode_bytes(value)])
    last, shared = items[-1][0], depth
    while first[shared] == last[shared]:
        shared += 1
    if shared > depth:
        path = rlp.encode_bytes(_path(first[depth:shared], is_leaf=False))
        return rlp.encode_list([path, _reference(_node(items, shared))])
    children = []
    start = 0
    for nibble in "0123456789abcdef":
        end = start
        while end < len(items) and items[end][0][depth] == nibble:
            end += 1
        children.append(_reference(_node(items[start:end], depth + 1)) if end > start else b"\x80")
        start = end
    # No index is the beginning of another one's RLP, so no value ends at a branch.
    return rlp.encode_list([*children, b"\x80"])


def _reference(node: bytes) -> bytes:
    return node if len(node) < _HASH_REFERENCE_BYTES else b"\xa0" + keccak256(node)


def _path(nibbles: str, *, is_leaf: bool) -> bytes:
    """Hex-prefix encoding: a flag nibble tells leaf from extension, and whether the count is odd."""
    flag = 2 * is_leaf + len(nibbles) % 2
    return bytes.fromhex(f"{flag}{nibbles}" if len(nibbles) % 2 else f"{flag}0{nibbles}")
