"""From a posting to a signed transaction: instruction, compute budget, fee. It neither chooses who pays nor sends."""

from nodes.model.solana import Pubkey
from nodes.rules.posting import Layout, memo_bytes
from nodes.rules.posting_values import Outgoing, Todo
from nodes.solana.payers import Payer
from nodes.solana.program import LOADED_BYTES_LIMIT, Inbox, memo_cu_limit, posting_call, posting_cu_limit
from nodes.solana.transactions import Budget, build, fee_lamports

MEMO_LOADED_BYTES_LIMIT = 256 * 1024
"""SPL Memo is some 75 kB."""
_NONCES = 256


def layout_of(inbox: Inbox, *, cu_price_micro_lamports: int) -> Layout:
    """What transactions to this inbox have room for.

    A table that does not hold every rollup is not counted on: lengths must be known before anything is built.
    """
    table = inbox.lookup_table
    return Layout(
        has_lookup_table=table is not None and set(inbox.accounts.values()).issubset(table.addresses),
        has_price=cu_price_micro_lamports > 0,
        is_memo=inbox.is_memo,
    )


class PostingSigner:
    """Signs for one inbox."""

    def __init__(self, inbox: Inbox, *, cu_price_micro_lamports: int) -> None:
        self._inbox = inbox
        self._price = cu_price_micro_lamports
        self.layout = layout_of(inbox, cu_price_micro_lamports=cu_price_micro_lamports)
        self._nonce = 0
        self.fee_max_lamports = fee_lamports(self._budget(self._cu_limit(self.layout.max_rollups, 1_232) + _NONCES))
        """No transaction costs more."""

    def sign(self, todo: Todo, payer: Payer, *, blockhash: bytes, last_valid_height: int) -> Outgoing:
        """The transaction; no two calls give the same one, for 256 of them."""
        rollups, data, items = todo.posting
        # A failed transaction that came again with the same bytes would be refused as known: the limit differs.
        self._nonce = (self._nonce + 1) % _NONCES
        budget = self._budget(self._cu_limit(len(rollups), len(data)) + self._nonce)
        table = self._inbox.lookup_table
        call = posting_call(payer.address, self._inbox, rollups, data)
        signed = build(
            payer.keypair,
            [call],
            blockhash=blockhash,
            budget=budget,
            tables=(table,) if table is not None and self.layout.uses_lookup(len(rollups)) else (),
        )
        return Outgoing(
            signature=signed.signature,
            raw=signed.raw,
            last_valid_height=last_valid_height,
            payer=Pubkey(payer.address),
            fee_lamports=fee_lamports(budget),
            data_bytes=len(call.data),
            part=todo.part,
            items=items,
        )

    def _budget(self, cu_limit: int) -> Budget:
        return Budget(
            cu_limit=cu_limit,
            cu_price_micro_lamports=self._price,
            loaded_bytes_limit=MEMO_LOADED_BYTES_LIMIT if self._inbox.is_memo else LOADED_BYTES_LIMIT,
        )

    def _cu_limit(self, rollups: int, data_bytes: int) -> int:
        if self._inbox.is_memo:
            return memo_cu_limit(memo_bytes(data_bytes, rollups=rollups))
        return posting_cu_limit(data_bytes, rollups=rollups)
