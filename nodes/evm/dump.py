"""anvil's dump made small: the whole state, and of the chain only what later blocks can depend on.

anvil dumps every header since genesis and every transaction it still holds. A later block can read the hashes of 256
blocks (the BLOCKHASH instruction), so as many headers are kept, and no transaction. A block's header keeps its hash
without them. Measured after 1,000 blocks: 2 MB become 100 kB.

The document may have 100 MB and this runs beside an event loop, so it is cut as bytes, and only what is kept is parsed.
"""

import gzip
import re
import zlib
from typing import Any

import orjson

from nodes.model.errors import AnswerTooLong, EngineFailure

KEPT_BLOCKS = 257
"""The head, and the 256 before it."""
MAX_DOCUMENT_BYTES = 512 * 1024 * 1024
"""anvil writes the calls of the newest transactions into it, with all their input."""
_BLOCKS = b'"blocks":['
_GZIP_WINDOW = 31
_TRANSACTIONS = re.compile(rb'\],"transactions":\[(?:\{"info":|\],"historical_states")')
_NUMBER = re.compile(rb'"number":"0x([0-9a-f]+)"')
_BETWEEN = b',{"header":'


def slim_dump(dumped: str) -> bytes:
    """The gzip-compressed document for `--load-state`, from the 0x-hex answer of `anvil_dumpState`.

    Raises EngineFailure where the document is not as anvil 1.7 writes it, AnswerTooLong.
    """
    try:
        document = _unpacked(bytes.fromhex(dumped.removeprefix("0x")))
        start = document.index(_BLOCKS, document.index(b'"best_block_number"')) + len(_BLOCKS)
        end = _TRANSACTIONS.search(document, start)
        if end is None:
            raise ValueError("no transactions after the blocks")
        blocks = _newest(document[start : end.start()])
        head = orjson.loads(b"{" + document[document.index(b'"best_block_number"') : start - len(_BLOCKS) - 1] + b"}")
        numbers = [int(block["header"]["number"], 16) for block in blocks]
        if not numbers or numbers != list(range(head["best_block_number"] + 1 - len(numbers), numbers[-1] + 1)):
            raise ValueError(f"blocks {numbers} do not lead to the head {head['best_block_number']}")
    except (ValueError, KeyError, zlib.error) as error:
        raise EngineFailure(f"anvil's dump cannot be read ({error}); is it an anvil 1.7.x?") from error
    kept = orjson.dumps(blocks)
    slim = document[: start - 1] + kept + b',"transactions":[],"historical_states":null}'
    return gzip.compress(slim, compresslevel=1)


def _unpacked(packed: bytes) -> bytes:
    unpacking = zlib.decompressobj(_GZIP_WINDOW)
    document = unpacking.decompress(packed, MAX_DOCUMENT_BYTES)
    if len(document) == MAX_DOCUMENT_BYTES:
        raise AnswerTooLong(method="anvil_dumpState, unpacked:", maximum_bytes=MAX_DOCUMENT_BYTES)
    if not unpacking.eof:
        raise ValueError("it ends too early")
    return document


def _newest(blocks: bytes) -> list[dict[str, Any]]:
    """The newest blocks in order, without transactions. anvil writes blocks in any order."""
    pieces = blocks.split(_BETWEEN)
    pieces[1:] = [b'{"header":' + piece for piece in pieces[1:]]
    by_number = {}
    for piece in pieces:
        found = _NUMBER.search(piece)
        if found is None:
            raise ValueError("a block without number")
        by_number[int(found[1], 16)] = piece
    newest = []
    for number in sorted(by_number)[-KEPT_BLOCKS:]:
        block = orjson.loads(by_number[number])
        block["transactions"] = []
        newest.append(block)
    return newest
