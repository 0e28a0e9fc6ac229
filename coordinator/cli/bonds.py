"""`lockstep bond`: a builder's promises, claims against its bond, and how the builder takes it back."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from coordinator.cli.running import Signals, fail, run_until_done
from nodes.model.errors import InvalidInput

if TYPE_CHECKING:
    from coordinator.bundle.bond import BondClaims, Claimed
    from coordinator.bundle.bond_withdrawal import BondWithdrawal
    from nodes.ethereum.client import L1Receipt

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_DIRECTORY = click.Path(path_type=Path, exists=True, file_okay=False)
_WEI = 10**18
_HASH_BYTES = 32
Result = TypeVar("Result")


@click.group("bond")
def bond_group() -> None:
    """Look at a builder's bond, be paid from it, or take it back.

    \b
    In a testnet with atomicity = "bond":
      lockstep bond status runs/my-testnet
      lockstep bond claim runs/my-testnet 0x51c2...
      lockstep bond request-withdrawal runs/my-testnet 2.5
      lockstep bond withdraw runs/my-testnet --wait 120
    """


_KEY_FILE = click.option("--key-file", type=_FILE, help="Key of the L1 account that pays the gas; default: user 0.")


@bond_group.command("status")
@click.argument("directory", type=_DIRECTORY)
def status(directory: Path) -> None:
    """Print the bond, what of it is bound, and what became of promises."""
    found = _with_claims(directory, None, lambda claims: claims.bond_status())
    click.echo(f"builder   0x{found.builder.hex()}")
    click.echo(f"bond      {found.bond_wei / _WEI:g} ether, {found.bound_wei / _WEI:g} bound by {found.open} promises")
    click.echo(
        f"promises  {found.made} of {found.promise_wei / _WEI:g} ether: {found.kept} kept, {found.due} due, "
        f"{found.paid} paid, {found.expired} expired"
    )
    click.echo(f"refused   {found.lacked_bond} bundles for lack of free bond")


@bond_group.command("claim")
@click.argument("directory", type=_DIRECTORY)
@click.argument("bundle_hash")
@_KEY_FILE
def claim(directory: Path, bundle_hash: str, key_file: Path | None) -> None:
    """Prove that a bundle succeeded only in part, and have its user paid.

    Both legs that prove it must be settled on L1; `lockstep bond reserve` holds the amount back until then.
    """
    bundle = _hash(bundle_hash)
    paid = _with_claims(directory, key_file, lambda claims: claims.claim(bundle))
    click.echo(f"paid {paid.amount_wei / _WEI:g} ether to 0x{paid.user.hex()}; {_cost(paid)}")


@bond_group.command("reserve")
@click.argument("directory", type=_DIRECTORY)
@click.argument("bundle_hash")
@_KEY_FILE
def reserve(directory: Path, bundle_hash: str, key_file: Path | None) -> None:
    """Hold a promised amount back on L1, so that neither a withdrawal nor another claim can take it."""
    bundle = _hash(bundle_hash)
    held = _with_claims(directory, key_file, lambda claims: claims.reserve(bundle))
    click.echo(f"reserved {held.amount_wei / _WEI:g} ether for 0x{held.user.hex()}; {_cost(held)}")


_BUILDER_KEY = click.option(
    "--key-file", type=_FILE, help="Key of the builder's account; default: that of the testnet's own builder."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object; amounts in wei, as text.")


@bond_group.command("request-withdrawal")
@click.argument("directory", type=_DIRECTORY)
@click.argument("ether")
@_BUILDER_KEY
@_JSON
def request_withdrawal(directory: Path, ether: str, key_file: Path | None, *, as_json: bool) -> None:
    """Ask for a part of the bond, as its builder. It can be taken some L1 blocks later (`withdrawal_delay_blocks`).

    Until it is taken the amount still answers for promises; new ones are no longer made against it. Asking again begins
    the delay anew, with the new amount.

    \b
    Example:
      lockstep bond request-withdrawal runs/my-testnet 2.5
    """

    async def ask(bond: "BondWithdrawal") -> None:
        from coordinator.bundle.crossing import ETHER_DECIMALS, amount_of

        receipt, holding = await bond.request(amount_of(ether, ETHER_DECIMALS))
        if as_json:
            _print_json(
                receipt,
                builder=bond.builder,
                bond_wei=str(holding.bond_wei),
                requested_wei=str(holding.requested_wei),
                from_block=holding.from_block,
            )
            return
        click.echo(
            f"asked for {holding.requested_wei / _WEI:g} of {holding.bond_wei / _WEI:g} ether; it can be taken from L1 "
            f"block {holding.from_block:,} on: lockstep bond withdraw {directory}"
        )

    _with_bond(directory, key_file, ask)


@bond_group.command("withdraw")
@click.argument("directory", type=_DIRECTORY)
@click.option("--wait", "wait_s", type=click.FloatRange(0), default=0.0, show_default=True, metavar="SECONDS",
              help="How long to wait for the end of the delay.")  # fmt: skip
@_BUILDER_KEY
@_JSON
def withdraw(directory: Path, wait_s: float, key_file: Path | None, *, as_json: bool) -> None:
    """Take what was asked for with `request-withdrawal`, once its delay is over.

    \b
    Example:
      lockstep bond withdraw runs/my-testnet --wait 120
    """

    async def take(bond: "BondWithdrawal") -> None:
        receipt, amount_wei = await bond.take(wait_s=wait_s)
        left_wei = (await bond.holding()).bond_wei
        if as_json:
            _print_json(receipt, builder=bond.builder, withdrawn_wei=str(amount_wei), bond_wei=str(left_wei))
            return
        click.echo(
            f"withdrew {amount_wei / _WEI:g} ether to 0x{bond.builder.hex()}, {left_wei / _WEI:g} are left; L1 block "
            f"{receipt.block_number}, {receipt.gas_used:,} gas, transaction 0x{receipt.tx_hash.hex()}"
        )

    _with_bond(directory, key_file, take)


def _with_bond(directory: Path, key_file: Path | None, use: "Callable[[BondWithdrawal], Awaitable[None]]") -> None:
    async def start(_signals: Signals) -> None:
        from coordinator.bundle.bond_withdrawal import BondWithdrawal
        from coordinator.bundle.transactions import read_key

        async with BondWithdrawal.of_directory(directory, key=read_key(key_file)) as bond:
            await use(bond)

    run_until_done(start)


def _print_json(receipt: "L1Receipt", *, builder: bytes, **values: str | int) -> None:
    document = {
        "builder": f"0x{builder.hex()}",
        **values,
        "l1_block": receipt.block_number,
        "gas_used": receipt.gas_used,
        "tx_hash": f"0x{receipt.tx_hash.hex()}",
    }
    click.echo(json.dumps(document))


def _with_claims(directory: Path, key_file: Path | None, use: "Callable[[BondClaims], Awaitable[Result]]") -> Result:
    key = "" if key_file is None else key_file.read_text(encoding="utf-8").strip()

    async def start(_signals: Signals) -> Result:
        from coordinator.bundle.bond import BondAccess, BondClaims

        async with BondClaims(BondAccess.of_directory(directory, payer_key=key)) as claims:
            return await use(claims)

    return run_until_done(start)


def _hash(text: str) -> bytes:
    try:
        value = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        value = b""
    if len(value) != _HASH_BYTES:
        fail(InvalidInput(f"{text!r} is not a bundle hash: 32 bytes as hex"))
    return value


def _cost(claimed: "Claimed") -> str:
    return f"L1 block {claimed.l1_block}, {claimed.gas_used:,} gas, transaction 0x{claimed.tx_hash.hex()}"
