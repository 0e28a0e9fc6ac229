"""`lockstep bundle`: build, sign and send a bundle by hand, with files that go from one signer to the next."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from coordinator.cli.running import Signals, fail, run_until_done
from nodes.model.errors import InvalidInput, TestbedError

if TYPE_CHECKING:
    from coordinator.bundle import Bundle

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_DIRECTORY = click.Path(path_type=Path, exists=True, file_okay=False)


@click.group("bundle")
def bundle_group() -> None:
    """Build, sign and send a bundle.

    \b
    A bundle with two signers:
      lockstep bundle build legs.toml --out bundle.json
      lockstep bundle sign bundle.json --key-file alice.key
      lockstep bundle sign bundle.json --key-file carol.key
      lockstep bundle send bundle.json
    """


@bundle_group.command("build")
@click.argument("legs", type=_FILE)
@click.option("--testnet", type=_DIRECTORY, help="Directory of the running testnet; default the newest under runs/.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("bundle.json"), show_default=True,
              help="File to write.")  # fmt: skip
def build(legs: Path, testnet: Path | None, out: Path) -> None:
    """Make an unsigned bundle from a TOML file of legs.

    Nonces, gas and the expiry are asked from the testnet where the file does not state them.

    \b
    Example of legs.toml:
      [[legs]]
      rollup = "rollup-1"
      sender = "0x..."
      to = "0x..."
      value = "0.5 ether"

      [[legs]]
      rollup = "rollup-2"
      sender = "0x..."
      to = "0x1000000000000000000000000000000000000004"
      call = "incrementIf(uint256,uint256)"
      args = [7, 0]
      gas = 120000
    """

    async def start(_signals: Signals) -> "Bundle":
        from coordinator.bundle import Client
        from coordinator.bundle.legs_file import read_legs

        specs, expiry = read_legs(legs)
        async with Client.of_directory(testnet or _newest()) as client:
            return await client.build(specs, expiry=expiry)

    bundle = run_until_done(start)
    try:
        _write(out, bundle)
    except TestbedError as error:
        fail(error)
    click.echo(f"{out}: bundle 0x{bundle.hash.hex()}, {len(bundle.legs)} legs, expiry {bundle.expiry}")
    _say_missing(bundle)


@bundle_group.command("sign")
@click.argument("file", type=_FILE)
@click.option("--key", envvar="LOCKSTEP_KEY", help="Private key in hex; also $LOCKSTEP_KEY.")
@click.option("--key-file", type=_FILE, help="File that holds the key; keeps it out of the shell's history.")
@click.option("--out", type=click.Path(path_type=Path), help="Write here instead of into the same file.")
def sign(file: Path, key: str | None, key_file: Path | None, out: Path | None) -> None:
    """Sign every leg that the key's account sends.

    \b
    Example:
      lockstep bundle sign bundle.json --key-file alice.key
    """
    try:
        if key_file is not None:
            key = key_file.read_text(encoding="utf-8").strip()
        if not key:
            raise InvalidInput("no key was given; use --key-file, --key or LOCKSTEP_KEY")
        bundle = _read(file).sign(key)
        _write(out or file, bundle)
    except TestbedError as error:
        fail(error)
    _say_missing(bundle)


@bundle_group.command("send")
@click.argument("file", type=_FILE)
@click.option("--testnet", type=_DIRECTORY, help="Directory of the running testnet; default the newest under runs/.")
@click.option("--timeout", "timeout_s", type=float, default=60.0, show_default=True, metavar="SECONDS",
              help="How long each rollup may take.")  # fmt: skip
def send(file: Path, testnet: Path | None, timeout_s: float) -> None:
    """Submit a signed bundle and print its life as it happens. Exit code 0 only if every leg succeeded.

    \b
    Example:
      lockstep bundle send bundle.json
    """

    async def start(_signals: Signals) -> str:
        from coordinator.bundle import Client

        bundle = _read(file)
        outcome = ""
        async with Client.of_directory(testnet or _newest()) as client:
            ticket = await bundle.submit(client)
            click.echo(f"accepted: submission 0x{ticket.submission_hash.hex()}{' (again)' if ticket.duplicate else ''}")
            async for event in client.follow(bundle, timeout_s=timeout_s):
                click.echo(str(event))
                if event.stage in ("executed", "dropped", "aborted"):
                    outcome = event.fate or event.stage
                elif event.stage == "atomic_safe":
                    outcome = "succeeded"
        return outcome

    sys.exit(0 if run_until_done(start) == "succeeded" else 1)


def _read(file: Path) -> "Bundle":
    from coordinator.bundle import Bundle

    try:
        return Bundle.from_json(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}") from error


def _write(file: Path, bundle: "Bundle") -> None:
    try:
        file.write_text(bundle.to_json(), encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{file} cannot be written: {error}; choose another file with --out") from error


def _newest() -> Path:
    from coordinator.cli.up_command import newest_testnet

    return newest_testnet()


def _say_missing(bundle: "Bundle") -> None:
    missing = bundle.missing_signers
    text = ", ".join(f"0x{sender.hex()}" for sender in missing)
    click.echo(f"to be signed by: {text}" if missing else "every leg is signed")
