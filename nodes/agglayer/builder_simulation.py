"""A rollup as a builder sees it: the newest block, the nonces of senders, and what legs would do on its state.

Everything goes over the rollup node's JSON-RPC. The engine's simulation checks no nonces and fails whole where one call
cannot be paid, so nonces are counted here, and the call is searched for. It does not know bundles.
"""

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nodes.agglayer.builder_judging import LegResult, PlannedLeg
from nodes.agglayer.builder_offers import OfferedLeg
from nodes.ethereum.client import L1Client
from nodes.evm.agglayer_contracts import BridgeEvent, ContingentMint, decode_log
from nodes.evm.contracts import RevertTable
from nodes.evm.skip import MAX_INIT_CODE_BYTES, intrinsic_gas
from nodes.model.errors import RpcError, Unavailable
from nodes.model.execution import Status, Transaction
from nodes.model.ids import Address, hex_of
from nodes.model.limits import MAX_RPC_BATCH
from nodes.rules import rlp
from nodes.rules.exit_tree import leaf_hash

MAX_NONCES = 200_000
"""Senders whose nonces are remembered."""
MAX_BLOCKS_BEHIND = 16
"""Blocks that are read one by one; beyond, nonces are asked again."""
MAX_UNPAYABLE = 32
"""Legs that may be found unpayable behind one another in one simulation, because none of them can be struck."""
SYNC_ATTEMPTS = 4
CALL_BYTES = 500
"""Of a call's JSON beside what grows with its payload, at most."""
_ACCESS_LIST_FIELD = {1: 7, 2: 8}
_UNPAYABLE = re.compile(r"insufficient funds|intrinsic gas|lack of funds", re.IGNORECASE)


def call_bytes(payload: bytes) -> int:
    """Most that a leg takes of a request: hex, and quotes around the words of an access list."""
    return CALL_BYTES + len(payload) * 5 // 2


class RollupMirror:
    """One rollup. `sync`, then `simulate` as often as needed on that block."""

    def __init__(self, name: str, client: L1Client, *, reverts: RevertTable) -> None:
        self.name = name
        self._client = client
        self._reverts = reverts
        self._number = -1
        self._hash = ""
        self._nonces: OrderedDict[Address, int] = OrderedDict()

    def nonce(self, sender: Address) -> int:
        """Of the sender's next transaction, after the block of the last `sync`, which must have had the sender."""
        return self._nonces[sender]

    async def sync(self, senders: Iterable[Address]) -> None:
        """Go to the newest block, and know the nonces of these senders at it. Raises Unavailable, RpcError."""
        wanted = list(dict.fromkeys(senders))
        for _ in range(SYNC_ATTEMPTS):
            try:
                await self._to_newest_block()
                await self._ask_nonces([sender for sender in wanted if sender not in self._nonces])
            except _Moved:
                self._forget()
                continue
            for sender in wanted:
                self._nonces.move_to_end(sender)
            while len(self._nonces) > max(MAX_NONCES, len(wanted)):
                self._nonces.popitem(last=False)
            return
        raise Unavailable(f"{self.name} changes its newest blocks faster than they can be read")

    def _forget(self) -> None:
        self._number, self._hash = -1, ""
        self._nonces.clear()

    async def _to_newest_block(self) -> None:
        head = await self._client.request("eth_getBlockByNumber", "latest", False)
        if head["hash"] == self._hash:
            return
        number = int(head["number"], 16)
        behind = number - self._number
        if not self._nonces or not 0 < behind <= MAX_BLOCKS_BEHIND:
            self._nonces.clear()
            self._number, self._hash = number, head["hash"]
            return
        calls = [("eth_getBlockByNumber", [hex(at), True]) for at in range(self._number + 1, number + 1)]
        for block in await self._client.batch(calls):
            if isinstance(block, RpcError) or block is None or block["parentHash"] != self._hash:
                raise _Moved
            self._apply(block)
        if self._hash != head["hash"]:
            raise _Moved

    def _apply(self, block: Mapping[str, Any]) -> None:
        for transaction in block["transactions"]:
            sender = Address(bytes.fromhex(transaction["from"][2:]))
            if sender in self._nonces:
                self._nonces[sender] += 1
        self._number, self._hash = int(block["number"], 16), block["hash"]

    async def _ask_nonces(self, senders: Sequence[Address]) -> None:
        at = {"blockHash": self._hash}
        for start in range(0, len(senders), MAX_RPC_BATCH):
            part = senders[start : start + MAX_RPC_BATCH]
            calls = [("eth_getTransactionCount", [hex_of(sender), at]) for sender in part]
            for sender, nonce in zip(part, await self._client.batch(calls), strict=True):
                if isinstance(nonce, RpcError):
                    raise _Moved
                self._nonces[sender] = int(nonce, 16)

    # Simulating.

    async def simulate(self, planned: Sequence[PlannedLeg]) -> list[LegResult | None]:
        """What each leg does behind those before it, on the block of the last `sync`.

        Where a leg that can fail cannot be paid, those behind it are None. Raises Unavailable, RpcError.
        """
        unpayable: set[int] = set()
        while True:
            results, places = self._counted(planned, unpayable)
            calls = [_call(planned[at].leg) for at in places]
            answers, failed = await self._answers(calls)
            for at, answer in zip(places, answers):
                results[at] = self._result(answer)
            if failed is None:
                return results
            at = places[len(answers)]
            if planned[at].can_fail or len(unpayable) >= MAX_UNPAYABLE:
                results[at] = LegResult(Status.SKIPPED, _unpayable_text(failed))
                return results[: at + 1] + [None] * (len(planned) - at - 1)
            unpayable.add(at)

    def _counted(self, planned: Sequence[PlannedLeg], unpayable: set[int]) -> tuple[list[LegResult | None], list[int]]:
        """Results of the legs that the engine would leave out by themselves, and the places of those to call."""
        nonces: dict[Address, int] = {}
        results: list[LegResult | None] = []
        places = []
        for at, entry in enumerate(planned):
            transaction = entry.leg.transaction
            nonce = nonces.get(transaction.sender, self._nonces[transaction.sender])
            flaw = _flaw(entry.leg.payload, transaction, nonce)
            if flaw or at in unpayable:
                results.append(LegResult(Status.SKIPPED, flaw or "insufficient funds"))
                continue
            nonces[transaction.sender] = nonce + 1
            results.append(None)
            if entry.is_burnt:
                results[-1] = LegResult(Status.SUCCEEDED)
            else:
                places.append(at)
        return results, places

    async def _answers(self, calls: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], str | None]:
        """Answers of the longest run of calls that can be paid, and why the one behind it cannot."""
        if not calls:
            return [], None
        try:
            return await self._simulated(calls), None
        except RpcError as error:
            if not _UNPAYABLE.search(error.message):
                raise
            text = error.message
        good, bad, answers = 0, len(calls), []
        while bad - good > 1:
            middle = (good + bad) // 2
            try:
                answers = await self._simulated(calls[:middle])
                good = middle
            except RpcError as error:
                if not _UNPAYABLE.search(error.message):
                    raise
                bad, text = middle, error.message
        return answers, text

    async def _simulated(self, calls: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        request = {"blockStateCalls": [{"calls": calls}], "validation": False}
        (block,) = await self._client.request("eth_simulateV1", request, {"blockHash": self._hash})
        answers: list[Mapping[str, Any]] = block["calls"]
        if len(answers) != len(calls):
            raise Unavailable(f"{self.name} simulated {len(answers)} of {len(calls)} calls")
        return answers

    def _result(self, answer: Mapping[str, Any]) -> LegResult:
        if answer["status"] != "0x1":
            return LegResult(Status.REVERTED, self._reverts.text(bytes.fromhex(answer["returnData"][2:])))
        exits, mints = [], []
        for log in answer["logs"]:
            event = decode_log(log)
            if isinstance(event, BridgeEvent):
                exits.append(leaf_hash(event.bridge_exit()))
            elif isinstance(event, ContingentMint):
                mints.append((event.source_network, event.leaf))
        return LegResult(Status.SUCCEEDED, "", tuple(exits), tuple(mints))


class _Moved(Exception):
    """The chain left the block that was read."""


def _flaw(payload: bytes, transaction: Transaction, nonce: int) -> str:
    """Why the engine would leave it out, whatever the state but the nonce; empty where it would not."""
    if transaction.max_priority_fee_per_gas > transaction.max_fee_per_gas:
        return "max priority fee per gas higher than max fee per gas"
    if not transaction.to and len(transaction.calldata) > MAX_INIT_CODE_BYTES:
        return "max initcode size exceeded"
    if transaction.gas_limit < intrinsic_gas(payload, transaction):
        return f"intrinsic gas too low: {transaction.gas_limit} given"
    if transaction.nonce != nonce:
        which = "low" if transaction.nonce < nonce else "high"
        return f"nonce too {which}: it has {transaction.nonce}, the account's next is {nonce}"
    return ""


def _unpayable_text(message: str) -> str:
    return "insufficient funds" if "funds" in message.lower() else message


def _call(leg: OfferedLeg) -> dict[str, Any]:
    transaction = leg.transaction
    call: dict[str, Any] = {
        "from": hex_of(transaction.sender),
        "gas": hex(transaction.gas_limit),
        "value": hex(transaction.value),
        "nonce": hex(transaction.nonce),
        "maxFeePerGas": hex(transaction.max_fee_per_gas),
        "maxPriorityFeePerGas": hex(transaction.max_priority_fee_per_gas),
        "input": hex_of(transaction.calldata),
    }
    if transaction.to:
        call["to"] = hex_of(transaction.to)
    entries = _access_list(leg.payload, transaction.tx_type)
    if entries:
        call["accessList"] = entries
    return call


def _access_list(payload: bytes, tx_type: int) -> list[dict[str, Any]]:
    field = _ACCESS_LIST_FIELD.get(tx_type)
    if field is None:
        return []
    entries: Any = rlp.decode(payload[1:])[field]
    return [{"address": hex_of(address), "storageKeys": [hex_of(slot) for slot in slots]} for address, slots in entries]
