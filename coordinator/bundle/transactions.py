"""Plain transactions of one account on one chain: tried first, then signed, sent and waited for.

What a chain would refuse costs nothing and says why. It knows no contract; errors are read by the packaged ABIs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodes.ethereum.account import Fees, L1Account
from nodes.ethereum.client import L1Client, L1Receipt
from nodes.evm.contracts import packaged_reverts
from nodes.model.errors import InvalidInput, RpcError
from nodes.model.ids import Address, hex_of

GAS_MARGIN_PERCENT = 30
"""Added to an estimate: what a transaction touches may differ by the time of its block."""
RECEIPT_DEADLINE_S = 60.0
KEY_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What one transaction does."""

    to: Address
    calldata: bytes
    value_wei: int = 0


class Sender:
    """An account on one chain; the client belongs to the caller."""

    def __init__(self, client: L1Client, key: str, *, chain_id: int, chain: str, pays_tips: bool) -> None:
        """`chain` is its name in messages. Without `pays_tips` no more than the base fee is offered, on rollups 0.

        Raises InvalidInput for what is no key.
        """
        self._client = client
        self._account = account_of(key, chain_id=chain_id)
        self._chain = chain
        self._pays_tips = pays_tips

    @property
    def address(self) -> Address:
        """Of the account."""
        return self._account.address

    async def send(self, calls: Sequence[Call]) -> list[L1Receipt]:
        """Send one transaction after the other, each tried on what the one before left; their receipts.

        Raises InvalidInput with the reason where the chain refuses one, Unavailable where it is in no block in time.
        """
        return [await self._send(call) for call in calls]

    async def _send(self, call: Call) -> L1Receipt:
        client, account = self._client, self._account
        base_fee_wei = (await client.head()).base_fee_wei
        fees = Fees.above(base_fee_wei) if self._pays_tips else Fees.above(base_fee_wei, priority_fee_wei=0)
        try:
            gas = await client.estimate_gas(call.to, call.calldata, sender=account.address, value_wei=call.value_wei)
            signed = account.sign_call(
                to=call.to,
                calldata=call.calldata,
                value_wei=call.value_wei,
                nonce=await client.nonce(account.address, "pending"),
                gas_limit=gas * (100 + GAS_MARGIN_PERCENT) // 100,
                fees=fees,
            )
            await client.send_raw(signed.raw)
        except RpcError as error:
            raise InvalidInput(f"{self._chain} refuses it: {revert_text(error)}") from error
        (receipt,) = await client.wait_receipts([signed.hash], deadline_s=RECEIPT_DEADLINE_S)
        if not receipt.succeeded:
            raise InvalidInput(
                f"transaction {hex_of(receipt.tx_hash)} was reverted on {self._chain}, although a trial of it had "
                "succeeded: somebody was faster; try again to hear the reason"
            )
        return receipt


def account_of(key: str, *, chain_id: int) -> L1Account:
    """The account of a private key in hex. Raises InvalidInput, which does not name the key."""
    try:
        if len(bytes.fromhex(key.removeprefix("0x"))) == KEY_BYTES:
            return L1Account.of_hex(key, chain_id=chain_id)
    except ValueError:
        pass
    raise InvalidInput("what was given as a private key is none: 32 bytes as hex, with or without 0x")


def read_key(file: Path | None) -> str:
    """The key in a file, empty without one. Raises InvalidInput where it cannot be read."""
    if file is None:
        return ""
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}") from error


def revert_text(error: RpcError) -> str:
    """Why a call reverted, in words where the error is one of the packaged contracts'."""
    data: Any = error.data
    if isinstance(data, str) and data.startswith("0x"):
        return packaged_reverts().text(bytes.fromhex(data[2:]))
    return error.message
