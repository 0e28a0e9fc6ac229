"""Transactions that were sent, or are about to be, and stand in no confirmed block. Pure."""

from collections.abc import Iterator, Mapping

from nodes.model.solana import Signature
from nodes.rules.posting_values import Outgoing


class UnderWay:
    """In the order of their last sending; with what their payers owe for them."""

    def __init__(self) -> None:
        self._transactions: dict[Signature, Outgoing] = {}
        self._lamports: dict[bytes, int] = {}
        """By payer, fees."""

    def __len__(self) -> int:
        return len(self._transactions)

    def __iter__(self) -> Iterator[Outgoing]:
        return iter(self._transactions.values())

    def __contains__(self, signature: object) -> bool:
        return signature in self._transactions

    def lamports(self) -> dict[bytes, int]:
        """By payer, the fees of them."""
        return dict(self._lamports)

    def enter(self, transaction: Outgoing) -> None:
        """Another one, as the last."""
        self._transactions[transaction.signature] = transaction
        self._lamports[transaction.payer] = self._lamports.get(transaction.payer, 0) + transaction.fee_lamports

    def leave(self, transaction: Outgoing) -> None:
        """It landed, or will not."""
        if self._transactions.pop(transaction.signature, None) is not None:
            self._lamports[transaction.payer] -= transaction.fee_lamports

    def mark_sent(self, signature: Signature, *, now_ns: int) -> None:
        """The bytes are on their way: the order is that of the last sending."""
        transaction = self._transactions.pop(signature, None)
        if transaction is not None:
            transaction.sent_ns = now_ns
            self._transactions[signature] = transaction

    def due(self, *, now_ns: int, pause_ns: int, count_max: int) -> list[Outgoing]:
        """Those whose last sending is so long ago; marked as sent."""
        found: list[Outgoing] = []
        for transaction in self:
            if transaction.sent_ns is None:
                continue
            if now_ns - transaction.sent_ns < pause_ns or len(found) >= count_max:
                break
            found.append(transaction)
        for transaction in found:
            self.mark_sent(transaction.signature, now_ns=now_ns)
        return found

    def order_by(self, made: Mapping[Signature, Outgoing]) -> None:
        """What is to be sent at once comes first, in the order of `made`."""
        place = {signature: number for number, signature in enumerate(made)}
        ordered = sorted(self, key=lambda sent: (sent.sent_ns or 0, place[sent.signature]))
        self._transactions = {transaction.signature: transaction for transaction in ordered}
