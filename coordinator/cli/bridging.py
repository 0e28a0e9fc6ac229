"""`lockstep bridge`: bring value from L1 to a rollup, back, or from one rollup to another, without a bundle."""

import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from coordinator.cli.running import EXIT_BROKEN, Signals, fail, run_until_done
from nodes.model.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from coordinator.bundle.crossing import BridgeUser, Crossing, Done
    from nodes.evm.agglayer_contracts import BridgeEvent
    from nodes.model.ids import Address

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_DIRECTORY = click.Path(path_type=Path, exists=True, file_okay=False)
_ADDRESS_BYTES = 20
_WEI = 10**18
WAIT_S = 120.0
Result = TypeVar("Result")

_KEY_FILE = click.option("--key-file", type=_FILE, help="Key of the account that sends; default: user 0.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Machine-readable; amounts in the smallest unit, as text.")


@click.group("bridge")
def bridge_group() -> None:
    """Deposit from L1 to a rollup, withdraw, or go from one rollup to another.

    Value leaves at once, arrives where it was proved, and is paid by a claim: a deposit some L1 blocks later, when the
    oracle has brought its root to the rollup; a withdrawal when the rollup's certificate is settled on L1. Networks are
    l1 and the rollups by name.

    \b
    With `lockstep up --scenario bridge` running:
      lockstep bridge send runs/my-testnet --from l1 --to rollup-1 --amount 2.5
      lockstep bridge claim runs/my-testnet
      lockstep bridge send runs/my-testnet --from rollup-1 --to l1 --amount 1
      lockstep bridge claim runs/my-testnet
      lockstep bridge list runs/my-testnet
    """


@bridge_group.command("send")
@click.argument("directory", type=_DIRECTORY)
@click.option("--from", "source", required=True, metavar="NETWORK", help="l1, or a rollup's name.")
@click.option("--to", "dest", required=True, metavar="NETWORK", help="l1, or a rollup's name.")
@click.option("--amount", required=True, help="In ether, or in whole tokens.")
@click.option("--token", metavar="ADDRESS", help="A token by its address on the source; default: ether.")
@click.option("--recipient", metavar="ADDRESS", help="Who is paid; default: the sender.")
@_KEY_FILE
@_JSON
def send(
    directory: Path,
    source: str,
    dest: str,
    amount: str,
    token: str | None,
    recipient: str | None,
    key_file: Path | None,
    *,
    as_json: bool,
) -> None:
    """Let value leave a network. It is paid at the other one by `lockstep bridge claim`.

    \b
    Examples:
      lockstep bridge send runs/my-testnet --from l1 --to rollup-1 --amount 2.5
      lockstep bridge send runs/my-testnet --from rollup-1 --to l1 --amount 1 --key-file alice.key
    """
    token_address, paid = _address(token, "--token"), _address(recipient, "--recipient")
    done = _with_user(
        directory, key_file, lambda user: user.send(source, dest, amount, token=token_address, recipient=paid)
    )
    if as_json:
        click.echo(json.dumps(_done_json(done)))
        return
    click.echo(
        f"exit {done.exit.leaf_index} of {source}: {_amount(done.exit)} to 0x{done.exit.dest_address.hex()} on {dest}; "
        f"{_cost(done)}"
    )
    click.echo(f"it is paid by: lockstep bridge claim {directory}")


@bridge_group.command("list")
@click.argument("directory", type=_DIRECTORY)
@click.option("--account", metavar="ADDRESS", help="Who is paid; default: the account of the key.")
@_KEY_FILE
@_JSON
def list_(directory: Path, account: str | None, key_file: Path | None, *, as_json: bool) -> None:
    """List everything that left a network for an account, and how far it has come.

    \b
    Example:
      lockstep bridge list runs/my-testnet
    """
    wanted = _address(account, "--account")
    found = _with_user(directory, key_file, lambda user: user.crossings(wanted))
    if as_json:
        click.echo(json.dumps([_crossing_json(one) for one in found]))
        return
    for one in found:
        why = f": {one.why}" if one.why else ""
        click.echo(
            f"{one.source.name} to {one.dest.name}, exit {one.exit.leaf_index}: {_amount(one.exit)}, {one.state}{why}"
        )
    if not found:
        click.echo("nothing has left any network for this account")


@bridge_group.command("claim")
@click.argument("directory", type=_DIRECTORY)
@click.option("--from", "source", metavar="NETWORK", help="Only what left this network.")
@click.option("--exit", "leaf_index", type=int, help="Only this exit, as `lockstep bridge list` numbers them.")
@click.option("--account", metavar="ADDRESS", help="Who is paid; default: the account of the key, which pays the gas.")
@click.option("--wait", "wait_s", type=click.FloatRange(0), default=WAIT_S, show_default=True, metavar="SECONDS",
              help="How long to wait for each until it can be proved.")  # fmt: skip
@_KEY_FILE
@_JSON
def claim(
    directory: Path,
    source: str | None,
    leaf_index: int | None,
    account: str | None,
    wait_s: float,
    key_file: Path | None,
    *,
    as_json: bool,
) -> None:
    """Have what left a network paid at the other one: deposits on rollups, withdrawals on L1.

    Claims everything that is open for the account, and waits for what cannot be proved yet. Exit code 1 where something
    could not be claimed in time; the others are claimed all the same.

    \b
    Examples:
      lockstep bridge claim runs/my-testnet
      lockstep bridge claim runs/my-testnet --from rollup-1 --exit 0 --wait 600
    """
    wanted = _address(account, "--account")
    claimed: list[Done] = []
    open_: list[tuple[Crossing, str]] = []

    async def use(user: "BridgeUser") -> bool:
        from coordinator.bundle.crossing import CLAIMABLE, WAITING

        if source is not None:
            user.network(source)
        found = [one for one in await user.crossings(wanted) if _is_meant(one, source, leaf_index)]
        if not found and leaf_index is not None:
            raise InvalidInput(f"there is no exit {leaf_index} of {source or 'any network'} for this account")
        # What can be claimed now first: nothing of it shall wait for the others.
        found = sorted(
            (one for one in found if one.state in (CLAIMABLE, WAITING)), key=lambda one: one.state == WAITING
        )
        for one in found:
            try:
                claimed.append(await user.claim(one, wait_s=wait_s))
            except (Unavailable, InvalidInput) as error:
                open_.append((one, str(error)))
                continue
            if not as_json:
                _say_claimed(claimed[-1])
        return bool(found)

    had_any = _with_user(directory, key_file, use)
    if as_json:
        failed = [{**_crossing_json(one), "error": error} for one, error in open_]
        click.echo(json.dumps({"claimed": [_done_json(done) for done in claimed], "open": failed}))
    elif not had_any:
        click.echo("nothing is open for this account")
    for _, error in open_:
        click.echo(f"error: {error}", err=True)
    sys.exit(EXIT_BROKEN if open_ else 0)


def _is_meant(one: "Crossing", source: str | None, leaf_index: int | None) -> bool:
    return source in (None, one.source.name) and leaf_index in (None, one.exit.leaf_index)


def _with_user(directory: Path, key_file: Path | None, use: "Callable[[BridgeUser], Awaitable[Result]]") -> Result:
    async def start(_signals: Signals) -> Result:
        from coordinator.bundle.crossing import BridgeAccess, BridgeUser
        from coordinator.bundle.transactions import read_key

        async with BridgeUser(BridgeAccess.of_directory(directory), read_key(key_file)) as user:
            return await use(user)

    return run_until_done(start)


def _address(text: str | None, option: str) -> "Address | None":
    from nodes.model.ids import Address

    if text is None:
        return None
    try:
        value = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        value = b""
    if len(value) != _ADDRESS_BYTES:
        fail(InvalidInput(f"{option} {text!r} is no address: 20 bytes as hex"))
    return Address(value)


def _say_claimed(done: "Done") -> None:
    click.echo(
        f"paid {_amount(done.exit)} to 0x{done.exit.dest_address.hex()} on {done.dest.name} for exit "
        f"{done.exit.leaf_index} of {done.source.name}; {_cost(done)}"
    )


def _amount(exit_event: "BridgeEvent") -> str:
    token = exit_event.token
    if not any(token.origin_token_address):
        return f"{exit_event.amount / _WEI:g} ether"
    born = f"network {token.origin_network}" if token.origin_network else "L1"
    return f"{exit_event.amount:,} units of token 0x{token.origin_token_address.hex()} of {born}"


def _cost(done: "Done") -> str:
    receipt = done.receipt
    return f"block {receipt.block_number}, {receipt.gas_used:,} gas, transaction 0x{receipt.tx_hash.hex()}"


def _exit_json(source: str, dest: str, exit_event: "BridgeEvent") -> Mapping[str, Any]:
    return {
        "from": source,
        "to": dest,
        "exit": exit_event.leaf_index,
        "amount": str(exit_event.amount),
        "origin_network": int(exit_event.token.origin_network),
        "origin_token": f"0x{exit_event.token.origin_token_address.hex()}",
        "recipient": f"0x{exit_event.dest_address.hex()}",
    }


def _crossing_json(one: "Crossing") -> Mapping[str, Any]:
    return {**_exit_json(one.source.name, one.dest.name, one.exit), "state": one.state, "waits_for": one.why}


def _done_json(done: "Done") -> Mapping[str, Any]:
    return {
        **_exit_json(done.source.name, done.dest.name, done.exit),
        "block": done.receipt.block_number,
        "gas_used": done.receipt.gas_used,
        "tx_hash": f"0x{done.receipt.tx_hash.hex()}",
    }
