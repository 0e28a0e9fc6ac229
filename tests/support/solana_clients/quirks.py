"""Where Surfpool and the dev node may answer differently, and why. What is not listed here is a difference too many."""

import re
from typing import NamedTuple


class Quirk(NamedTuple):
    """One reason, and the differences that it explains."""

    pattern: str
    """Of the whole line: question, place in the answer, values."""
    reason: str


QUIRKS = (
    Quirk(r"slot : ours \d+, theirs \d+", "each chain has its own clock"),
    Quirk(r"block time : ours \d+, theirs \d+", "each chain has its own clock"),
    Quirk(r"version \.surfnet-version: only theirs", "Surfpool names itself"),
    Quirk(r"leaders \[0\]: .*", "each cluster has its own identities"),
    Quirk(r".*rentEpoch: ours 18446744073709551615, theirs 0", "a network marks rent-exempt accounts with u64::MAX"),
    Quirk(r".*uiAmountString: .*", "Surfpool does not drop zeros, and takes the raw amount for a supply"),
    Quirk(r"samples .*", "Surfpool samples every second and counts every transaction as a vote"),
    Quirk(r"airdrop as .*", "the faucet is another account and pays in another form"),
    Quirk(r".*\.meta\.costUnits: only ours", "Surfpool has no cost model"),
    Quirk(r".*\.meta\.returnData: only theirs", "Surfpool answers empty return data where a node leaves them out"),
    Quirk(r".*\.meta\.fee: ours 5030, theirs 5000", "Surfpool charges no priority fee"),
    Quirk(r"mint as .*signatures\[1\]: .*", "the second signer signs another blockhash"),
    Quirk(r"table as .*(consumed \d+ of|instructions\[0\]\.data).*", "the table's address depends on the slot"),
    Quirk(r"(nonsense|short) .*\.data: ours None, theirs '.*'", "Surfpool explains in data what a node says in text"),
    Quirk(r"far context \.data\.contextSlot: .*", "Surfpool repeats the wanted slot, a node tells its own"),
    Quirk(r"block for old clients \.(data|error): .*", "a node has a code of its own for versions (-32015)"),
    Quirk(r"block at processed \.(data|error): .*", "a node refuses blocks below confirmed"),
    Quirk(r"block of the future : ours .*-32004.*, theirs None", "Surfpool answers null"),
    Quirk(r"blocks with limit : ours \[\], theirs .*-32602.*", "a node answers a limit of 0 with nothing"),
    Quirk(r"send forged \.error: ours -32003, theirs -32002", "a node has a code of its own for signatures"),
    Quirk(
        r"simulate .*\.(fee|loadedAddresses|(pre|post)(Token)?Balances): ours .*, theirs None",
        "Surfpool simulates without balances and fees",
    ),
)


def unexplained(lines: list[str]) -> list[str]:
    """The differences that no quirk explains, and the quirks that explain nothing."""
    used = {quirk for quirk in QUIRKS for line in lines if re.fullmatch(quirk.pattern, line, re.DOTALL)}
    rest = [line for line in lines if not any(re.fullmatch(quirk.pattern, line, re.DOTALL) for quirk in QUIRKS)]
    return rest + [f"no longer a difference: {quirk.reason} ({quirk.pattern})" for quirk in QUIRKS if quirk not in used]
