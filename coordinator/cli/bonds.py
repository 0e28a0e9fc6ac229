"""`lockstep bond`: a builder's promises, and claims against its bond."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from coordinator.cli.running import Signals, fail, run_until_done
from nodes.model.errors import InvalidInput

if TYPE_CHECKING:
    from coordinator.bundle.bond import BondClaims, Claimed

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_DIRECTORY = click.Path(path_type=Path, exists=True, file_okay=False)
_WEI = 10**18
_HASH_BYTES = 32
Result = TypeVar("Result")


@click.group("bond")
def bond_group() -> None:
    """Look at a builder's bond and be paid from it.

    \b
    In a testnet with atomicity = "bond":
      lockstep bond status runs/my-testnet
      lockstep bond claim runs/my-testnet 0x51c2...
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
