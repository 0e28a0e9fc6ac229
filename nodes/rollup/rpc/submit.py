"""Handing in transactions and bundles, and asking what became of them.

A transaction hash is answered only after the sequencer made the submission durable. This node checks what it can: of
legs for other rollups neither nonces nor balances, which it does not know; there the leg's own rollup decides.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from weakref import WeakValueDictionary

from nodes.json_rpc.faults import RpcFault, invalid_params
from nodes.model.bundle import BUNDLE_VERSION, Bundle, Leg
from nodes.model.errors import InvalidSubmission, TestbedError
from nodes.model.execution import RollupParams, Transaction
from nodes.model.ids import BundleHash, LegHash, SubmissionHash, chain_id_of, hex_of, rollup_id_of
from nodes.model.limits import MAX_LEGS_PER_BUNDLE, MAX_SUBMISSION_BYTES
from nodes.model.status import BlockHead, LegFate
from nodes.ports import Sequencer, Ticket
from nodes.rollup.pending import next_nonce
from nodes.rollup.rpc.accepted import AcceptedBundle, AcceptedTransactions
from nodes.rollup.rpc.checks import Account, accepted, account_flaw, chain_id_in, static_flaw
from nodes.rollup.rpc.errors import LIMIT_EXCEEDED, SERVER_ERROR
from nodes.rollup.rpc.forms import Json
from nodes.rollup.rpc.params import Params, data_of, quantity
from nodes.rollup.rpc.reader import ChainReader
from nodes.rollup.rpc.subscriptions import Publisher
from nodes.rollup.rpc.view import NodeView
from nodes.rules.bundle import bundle_hash
from nodes.wire.bundles import bundle_to_bytes

_MIN_LEGS = 2
_MAX_EXPIRY = 2**64 - 1


class SubmitMethods:
    """Handlers of methods that send, and of those that say what became of it."""

    def __init__(
        self,
        node: NodeView,
        reader: ChainReader,
        accepted_transactions: AcceptedTransactions,
        sequencer: Sequencer,
        publisher: Publisher,
    ) -> None:
        self._node = node
        self._reader = reader
        self._accepted = accepted_transactions
        self._sequencer = sequencer
        self._publisher = publisher
        self._by_chain: dict[int, RollupParams] = {
            chain_id_of(params.rollup_id): params for params in node.testnet.rollups
        }
        self._turns: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()

    # One transaction.

    async def send_raw_transaction(self, params: Params) -> str:
        """eth_sendRawTransaction."""
        payload = params.data("signed transaction")
        params.end()
        transaction = accepted(payload, self._node.chain_id)
        if isinstance(transaction, str):
            raise RpcFault(SERVER_ERROR, transaction)
        if transaction.trailer is not None:
            which = f"leg {transaction.trailer.leg_index + 1} of {transaction.trailer.leg_count}"
            raise RpcFault(SERVER_ERROR, f"{which}: send the bundle with lockstep_sendBundle")
        flaw = static_flaw(payload, transaction, self._node.params)
        if flaw:
            raise RpcFault(SERVER_ERROR, flaw)
        leg = Leg(rollup_id=self._node.params.rollup_id, payload=payload, leg_hash=LegHash(b""))
        async with self._turns_of([transaction.sender]):
            self._check_unknown(transaction)
            await self._check_accounts({0: transaction})
            ticket = await self._submit(Bundle(version=0, expiry=0, legs=(leg,)))
            self._check_first(ticket, transaction)
            self._remember(payload, transaction)
        return hex_of(transaction.tx_hash)

    def _check_unknown(self, transaction: Transaction) -> None:
        if transaction.tx_hash in self._node.pending:
            raise RpcFault(SERVER_ERROR, "already known")

    def _check_first(self, ticket: Ticket, transaction: Transaction) -> None:
        """The sequencer places the same bytes once; a copy of what was left out would be waited for in vain."""
        if not ticket.duplicate:
            return
        fate = self._node.index.transaction(transaction.tx_hash)
        if fate is None or fate.executed:
            return  # it is under way, handed in through another node, or done
        raise RpcFault(
            SERVER_ERROR,
            f"already known: it was {fate.fate} at sequenced height {fate.height} ({fate.reason}), and the sequencer "
            "takes the same bytes once; change the transaction (its gas limit, say) and sign it again",
        )

    # A bundle.

    async def send_bundle(self, params: Params) -> Json:
        """lockstep_sendBundle([signed legs], {expiry}): the legs of one bundle, for any rollups of the testnet."""
        raw = params.take("legs")
        options = params.take("options", {})
        params.end()
        expiry = _expiry(options)
        payloads = self._payloads(raw)
        transactions = [self._leg(payload, index) for index, payload in enumerate(payloads)]
        wanted = self._checked_hash(transactions, expiry)
        legs = tuple(
            Leg(
                rollup_id=rollup_id_of(transaction.chain_id),
                payload=payload,
                leg_hash=transaction.leg_hash or LegHash(b""),
            )
            for payload, transaction in zip(payloads, transactions)
        )
        own = {at: leg for at, leg in enumerate(transactions) if leg.chain_id == self._node.chain_id}
        async with self._turns_of(leg.sender for leg in own.values()):
            known = self._accepted.bundle(wanted)
            is_copy = bool(own) and all(leg.tx_hash in self._node.pending for leg in own.values())
            if is_copy and known is not None:
                return _bundle_answer(known)
            if not is_copy:
                await self._check_accounts(own)
            ticket = await self._submit(Bundle(version=BUNDLE_VERSION, expiry=expiry, legs=legs))
            bundle = AcceptedBundle(
                bundle_hash=wanted,
                submission_hash=ticket.submission_hash,
                expiry=expiry,
                legs=tuple((leg.chain_id, leg.tx_hash) for leg in transactions),
            )
            for at, leg in own.items():
                self._check_first(ticket, leg)
                self._remember(payloads[at], leg)
            self._accepted.keep_bundle(bundle)
        return _bundle_answer(bundle)

    def _payloads(self, raw: Any) -> list[bytes]:
        if not isinstance(raw, list) or not _MIN_LEGS <= len(raw) <= MAX_LEGS_PER_BUNDLE:
            raise invalid_params(
                f"legs must be a list of {_MIN_LEGS} to {MAX_LEGS_PER_BUNDLE} signed transactions, in the bundle's "
                "order; a transaction that travels alone goes to eth_sendRawTransaction"
            )
        return [data_of(item, f"leg {index + 1}") for index, item in enumerate(raw)]

    def _leg(self, payload: bytes, index: int) -> Transaction:
        """One leg, judged by the rules of the rollup that it names."""
        chain_id = chain_id_in(payload)
        params = self._by_chain.get(chain_id or 0)
        if params is None:
            known = ", ".join(f"{chain} ({known.name})" for chain, known in sorted(self._by_chain.items()))
            named = f"chain id {chain_id} is no rollup" if chain_id is not None else "its chain id cannot be read"
            raise RpcFault(SERVER_ERROR, f"leg {index + 1}: {named}; this testnet has {known}")
        transaction = accepted(payload, chain_id or 0)
        flaw = transaction if isinstance(transaction, str) else static_flaw(payload, transaction, params)
        if isinstance(transaction, str) or flaw:
            raise RpcFault(SERVER_ERROR, f"leg {index + 1}: {flaw}")
        return transaction

    def _checked_hash(self, legs: Sequence[Transaction], expiry: int) -> BundleHash:
        """The bundle hash that legs and expiry give; every trailer must name it, its own place and the count."""
        for index, leg in enumerate(legs):
            if leg.trailer is None or leg.leg_hash is None:
                raise RpcFault(
                    SERVER_ERROR, f"leg {index + 1} carries no bundle trailer; build and sign it as part of a bundle"
                )
        hashes = [leg.leg_hash for leg in legs if leg.leg_hash is not None]
        wanted = bundle_hash(version=BUNDLE_VERSION, expiry=expiry, leg_hashes=hashes)
        for index, leg in enumerate(legs):
            assert leg.trailer is not None, "checked above"
            place = (leg.trailer.leg_index, leg.trailer.leg_count)
            if place != (index, len(legs)):
                said = f"says it is leg {place[0] + 1} of {place[1]}"
                raise RpcFault(
                    SERVER_ERROR, f"leg {index + 1} of {len(legs)} {said}; send all legs in the bundle's order"
                )
            if leg.trailer.bundle_hash != wanted:
                raise RpcFault(
                    SERVER_ERROR,
                    f"leg {index + 1}: its trailer names bundle {hex_of(leg.trailer.bundle_hash)}, but version "
                    f"{BUNDLE_VERSION}, expiry {expiry} and these legs give {hex_of(wanted)}; was another "
                    "expiry signed?",
                )
        if len({(leg.chain_id, leg.sender, leg.nonce) for leg in legs}) < len(legs):
            raise RpcFault(SERVER_ERROR, "two legs have the same chain, sender and nonce; such a bundle is void")
        height = self._node.heads.height
        if expiry and expiry <= height:
            raise RpcFault(SERVER_ERROR, f"the bundle expired: expiry {expiry}, sequenced height {height}")
        return wanted

    # Both.

    @asynccontextmanager
    async def _turns_of(self, senders: Iterable[bytes]) -> AsyncIterator[None]:
        """One submission per sender at a time, so that the next one sees the nonce that this one takes."""
        async with AsyncExitStack() as held:
            for sender in sorted(set(senders)):
                lock = self._turns.setdefault(sender, asyncio.Lock())
                await held.enter_async_context(lock)
            yield

    async def _check_accounts(self, legs: Mapping[int, Transaction]) -> None:
        """Nonce, balance and code of this rollup's senders; the legs of one sender follow each other."""
        taken: dict[bytes, int] = defaultdict(int)
        for index, leg in legs.items():
            found, pending = await self._reader.account_and_pending("eth_getAccountInfo", leg.sender)
            account = Account(int(found["nonce"], 16), int(found["balance"], 16), found["code"] not in ("", "0x"))
            following = next_nonce(account.nonce, pending) + taken[leg.sender]
            flaw = account_flaw(leg, account, next_nonce=following)
            if flaw:
                raise RpcFault(SERVER_ERROR, flaw if leg.trailer is None else f"leg {index + 1}: {flaw}")
            taken[leg.sender] += 1

    async def _submit(self, bundle: Bundle) -> Ticket:
        """Durable at the sequencer when it returns. Raises Overloaded, Unavailable, RpcFault for a refusal."""
        data = bundle_to_bytes(bundle)
        if len(data) > MAX_SUBMISSION_BYTES:
            text = f"MAX_SUBMISSION_BYTES is {MAX_SUBMISSION_BYTES:,}, but the bundle has {len(data):,}"
            raise RpcFault(LIMIT_EXCEEDED, text)
        try:
            (ticket,) = await self._sequencer.submit([data])
        except InvalidSubmission as error:
            raise RpcFault(SERVER_ERROR, str(error)) from error
        if not ticket.accepted:
            raise RpcFault(SERVER_ERROR, f"the sequencer refused it: {ticket.reason}")
        return ticket

    def _remember(self, payload: bytes, transaction: Transaction) -> None:
        """It counts as pending, unless it was derived while its ticket was on the way."""
        if self._node.index.transaction(transaction.tx_hash) is not None:
            return
        self._node.pending.add(transaction.sender, transaction.nonce, transaction.tx_hash)
        self._accepted.keep(transaction.tx_hash, payload)
        self._publisher.transaction_accepted(payload, transaction)

    # What became of it.

    async def transaction_status(self, params: Params) -> Json:
        """lockstep_getTransactionStatus: pending, unknown to this node, or its fate (`TransactionFate.fate`)."""
        tx_hash = params.hash("transaction hash")
        params.end()
        fate = self._node.index.transaction(tx_hash)
        is_pending = tx_hash in self._node.pending
        if fate is None or (is_pending and not fate.executed):
            status = "pending" if is_pending else "unknown"
            return {"status": status, "reason": "", "height": None, "blockNumber": None, "bundleHash": None}
        return {
            "status": fate.fate,
            "reason": fate.reason,
            "height": hex(fate.height),
            "blockNumber": None if fate.block is None else hex(fate.block.number),
            "bundleHash": None if fate.trailer is None else hex_of(fate.trailer.bundle_hash),
        }

    async def bundle(self, params: Params) -> Json | None:
        """lockstep_getBundle: the legs that this rollup met, newest height first; null for an unknown bundle."""
        wanted = params.hash("bundle hash")
        params.end()
        fates = self._node.index.bundle_fates(wanted)
        known = self._accepted.bundle(wanted)
        if not fates and known is None:
            return None
        legs = None
        if known is not None:
            legs = [{"chainId": hex(chain), "transactionHash": hex_of(tx_hash)} for chain, tx_hash in known.legs]
        return {
            "bundleHash": hex_of(wanted),
            "submissionHash": None if known is None else hex_of(known.submission_hash),
            "expiry": None if known is None else hex(known.expiry),
            "legs": legs,
            "fates": [_fate_json(fate) for fate in fates],
        }

    async def status(self, params: Params) -> Json:
        """lockstep_status: this node and its sequencer."""
        params.end()
        own = await self._node.status()
        try:
            theirs = await self._sequencer.status()
            sequencer: Json = {
                "backend": theirs.backend,
                "height": hex(theirs.head.height),
                "firmHeight": hex(theirs.firm_height),
                "pendingBundles": hex(theirs.pending_bundles),
                "blockIntervalMs": hex(theirs.block_interval_ms),
            }
        except TestbedError as error:
            # Its being away is a part of the answer.
            sequencer = {"error": str(error)}
        return {
            "name": own.name,
            "chainId": hex(own.chain_id),
            "height": hex(own.heads.height),
            "sequencerHeight": hex(own.sequencer_height),
            "latest": _head_json(own.heads.latest),
            "safe": _head_json(own.heads.safe),
            "finalized": _head_json(own.heads.finalized),
            "pendingTransactions": hex(own.pending_transactions),
            "transactions": hex(own.transactions),
            "stalled": own.stalled,
            "sequencer": sequencer,
        }


def _expiry(options: Any) -> int:
    if not isinstance(options, Mapping) or set(options) - {"expiry"}:
        raise invalid_params(
            "the options of a bundle are an object with one field, expiry: a sequenced height, 0 = none"
        )
    value = options.get("expiry", 0)
    expiry = value if isinstance(value, int) and not isinstance(value, bool) else quantity(value, "expiry")
    if not 0 <= expiry <= _MAX_EXPIRY:
        raise invalid_params(f"expiry {expiry} must be 0 to 2**64 - 1")
    return expiry


def _bundle_answer(bundle: AcceptedBundle) -> Json:
    return {
        "bundleHash": hex_of(bundle.bundle_hash),
        "submissionHash": hex_of(SubmissionHash(bundle.submission_hash)),
        "transactionHashes": [hex_of(tx_hash) for _, tx_hash in bundle.legs],
    }


def _fate_json(fate: LegFate) -> Json:
    return {
        "legIndex": hex(fate.leg_index),
        "height": hex(fate.height),
        "transactionHash": hex_of(fate.tx_hash),
        "fate": fate.fate,
        "reason": fate.reason,
        "blockNumber": hex(fate.block_number) if fate.block_number else None,
    }


def _head_json(head: BlockHead) -> Json:
    return {"number": hex(head.number), "hash": hex_of(head.hash)}
