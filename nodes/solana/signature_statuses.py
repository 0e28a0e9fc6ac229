"""What a Solana node says of signatures, and of errors. Decides nothing."""

from collections.abc import Sequence
from typing import Any

import orjson
from solders.signature import Signature as SoldersSignature

from nodes.model.errors import RpcError
from nodes.model.solana import Signature
from nodes.solana.ports import SolanaRpc
from nodes.solana.program import error_text


async def statuses_of(
    rpc: SolanaRpc, signatures: Sequence[Signature], *, needed_slot: int
) -> list[tuple[Signature, Any]]:
    """Status of each, None where the chain knows none; nothing where the node is behind `needed_slot`.

    Raises Unavailable, RpcError where it cannot be asked, KeyError, TypeError, ValueError for an answer that is none.
    """
    names = [str(SoldersSignature.from_bytes(signature)) for signature in signatures]
    answer = await rpc.call("getSignatureStatuses", [names, {"searchTransactionHistory": True}])
    if int(answer["context"]["slot"]) < needed_slot:
        return []
    found = list(zip(signatures, answer["value"], strict=True))
    for _, status in found:
        if status is not None:
            int(status["slot"])
    return found


def is_known(answer: RpcError) -> bool:
    """The node has the transaction already, which is as good as taking it."""
    text = answer.message.lower()
    return "already" in text and "processed" in text


def failure_text(error: Any) -> str:
    """A transaction's error; codes of the inbox program in words."""
    try:
        index, what = error["InstructionError"]
        return f"instruction {index}: {error_text(int(what['Custom']))}"
    except (TypeError, KeyError, ValueError):
        return orjson.dumps(error).decode()
