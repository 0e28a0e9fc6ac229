"""Where the value is at the end of a run: escrow on L1, supply on every rollup, what is on its way, what nothing backs.

Two sources that must agree: what the chains hold (balances and supplies, by JSON-RPC), and what their bridges say they
did (logs). Reading is apart from judging, so that the judgement is a pure function of what was read. Counted are the
token of the workloads and ether; other tokens that a bridge moved are named, for nothing was read of their balances.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from coordinator.launch import RunningTestnet
from coordinator.spec.agglayer import BRIDGED_TOKEN
from coordinator.stages.invariants import Verdict
from nodes.ethereum.client import L1Client
from nodes.evm.agglayer_contracts import (
    BANK,
    BRIDGE,
    L1_TOKEN,
    MANAGER,
    BridgeEvent,
    ClaimEvent,
    ContingentMint,
    ContingentSettled,
    RangeSettled,
    bridged_token_address,
    decode_log,
)
from nodes.evm.agglayer_genesis import UNISSUED_WEI
from nodes.evm.contracts import encode_call
from nodes.model.agglayer import ETH, MAINNET, LeafType, NetworkId, TokenInfo
from nodes.model.ids import Address, hex_of
from nodes.model.limits import PATIENT_DEADLINE_S
from nodes.rules.exit_tree import leaf_hash

LOG_BLOCKS = 50
"""Blocks of one request for logs: a busy rollup has 100 logs a block, and answers 10,000 at most."""
TOKEN_NAMES: Mapping[TokenInfo, str] = {BRIDGED_TOKEN: "LOCK", ETH: "ether"}
"""Every token that is counted."""
MAX_NAMED = 5
"""Tokens that are not counted, in one sentence."""


class BridgeLog(NamedTuple):
    """One event of a bridge, with the transaction that made it."""

    event: Any
    tx_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkBooks:
    """One network at one block."""

    network_id: NetworkId
    name: str
    block: int
    holdings: Mapping[TokenInfo, int]
    """Of a rollup what is issued there; of L1 what its bridge escrows."""
    logs: tuple[BridgeLog, ...]
    """Of its bridge, from genesis to the block."""
    bank_outstanding: int = 0
    """Of the bridged token, lent by the rollup's bank and not repaid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """All networks after a run."""

    l1: NetworkBooks
    rollups: tuple[NetworkBooks, ...]
    """Ascending by network."""
    ranges: tuple[RangeSettled, ...]
    """As L1 took them."""


# Reading


async def read_books(running: RunningTestnet) -> Books:
    """Read every chain at its safe head. Raises Unavailable, RpcError."""
    names = [rollup.name for rollup in running.testnet.rollups]
    async with L1Client(running.l1_rpc_url, deadline_s=PATIENT_DEADLINE_S) as client:
        head = (await client.head()).number
        token = await client.call(L1_TOKEN, encode_call("balanceOf(address)", BRIDGE), block=hex(head))
        l1 = NetworkBooks(
            network_id=MAINNET,
            name="L1",
            block=head,
            holdings={
                BRIDGED_TOKEN: int.from_bytes(token, "big"),
                ETH: await client.balance_wei(BRIDGE, hex(head)),
            },
            logs=await _logs(client, head, BRIDGE),
        )
        settled = await _logs(client, head, MANAGER)
    rollups = [
        await _read_rollup(NetworkId(number), name, running.endpoint(name).rpc_url)
        for number, name in enumerate(names, start=1)
    ]
    ranges = tuple(log.event for log in settled if isinstance(log.event, RangeSettled))
    return Books(l1=l1, rollups=tuple(rollups), ranges=ranges)


async def _read_rollup(network_id: NetworkId, name: str, rpc_url: str) -> NetworkBooks:
    async with L1Client(rpc_url, deadline_s=PATIENT_DEADLINE_S) as client:
        head = (await client.head("safe")).number
        bridged = bridged_token_address(BRIDGED_TOKEN)
        supply = await client.call(bridged, encode_call("totalSupply()"), block=hex(head))
        unissued = await client.balance_wei(BRIDGE, hex(head))
        lent = await client.call(BANK, encode_call("outstandingOf(address)", bridged), block=hex(head))
        return NetworkBooks(
            network_id=network_id,
            name=name,
            block=head,
            holdings={BRIDGED_TOKEN: int.from_bytes(supply, "big"), ETH: UNISSUED_WEI - unissued},
            logs=await _logs(client, head, BRIDGE),
            bank_outstanding=int.from_bytes(lent, "big"),
        )


async def _logs(client: L1Client, head: int, address: Address) -> tuple[BridgeLog, ...]:
    found = []
    for first in range(0, head + 1, LOG_BLOCKS):
        last = min(head, first + LOG_BLOCKS - 1)
        for log in await client.logs(first=first, last=last, addresses=[address]):
            event = decode_log(log)
            if event is not None:
                found.append(BridgeLog(event, bytes.fromhex(log["transactionHash"][2:])))
    return tuple(found)


# Judging


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCount:
    """One token over all networks. Amounts in its smallest unit."""

    token: str
    escrow: int
    supply: Mapping[str, int]
    """By rollup."""
    in_flight: int
    """Left one network and has not come to another."""
    created: int
    """Paid out without an exit that it stands for."""
    unbacked: Mapping[str, int]
    """Rollups that issued other amounts than their bridge says, and by how much more."""

    @property
    def is_conserved(self) -> bool:
        """Everything that exists, or is on its way, is escrowed, and nothing else is."""
        return not self.created and not self.unbacked and self.escrow == sum(self.supply.values()) + self.in_flight

    def to_json(self) -> dict[str, Any]:
        """As run.json has it. Amounts as texts: they are larger than what other readers keep exactly."""
        return {
            "token": self.token,
            "decimals": 18,
            "escrow": str(self.escrow),
            "supply": {name: str(amount) for name, amount in self.supply.items()},
            "in_flight": str(self.in_flight),
            "created": str(self.created),
            "unbacked": {name: str(amount) for name, amount in self.unbacked.items()},
            "conserved": self.is_conserved,
        }


class UncountedToken(NamedTuple):
    """A token that bridges moved, and of which nobody knows whether it was conserved."""

    token: TokenInfo
    events: int
    """Exits, claims and contingent mints, on all networks."""

    def to_json(self) -> dict[str, Any]:
        """As run.json has it."""
        address = hex_of(self.token.origin_token_address)
        return {"network": int(self.token.origin_network), "address": address, "events": self.events}


@dataclass(slots=True)
class _Flows:
    """What the bridges did with one token."""

    exits: Counter[tuple[int, bytes]] = field(default_factory=Counter)
    """By source network and leaf."""
    paid: Counter[tuple[int, bytes]] = field(default_factory=Counter)
    """Claims that paid, and contingent mints, by what they stand for."""
    amount_of: dict[tuple[int, bytes], int] = field(default_factory=dict)
    issued: Counter[str] = field(default_factory=Counter)
    """By rollup: what its bridge paid less what it took."""


def uncounted_tokens(books: Books) -> list[UncountedToken]:
    """Tokens of bridge events that `count_value` leaves out, most used first. Pure."""
    networks = (books.l1, *books.rollups)
    exits = {(network.network_id, event.leaf_index): event for network in networks
             for event in _events(network.logs, BridgeEvent)}  # fmt: skip
    used = Counter(_moved_token(event) for event in exits.values())
    for network in networks:
        for claim in _events(network.logs, ClaimEvent):
            made = exits.get((claim.global_index.network_id, claim.global_index.leaf_index))
            used[_claimed_token(claim, made)] += 1
        used.update(mint.token for mint in _events(network.logs, ContingentMint))
    return [UncountedToken(token, events) for token, events in used.most_common() if token not in TOKEN_NAMES]


def _moved_token(made: BridgeEvent) -> TokenInfo:
    # A message moves ether, and says who sent it where a transfer names its token.
    return ETH if made.leaf_type is LeafType.MESSAGE else made.token


def _claimed_token(claim: ClaimEvent, made: BridgeEvent | None) -> TokenInfo:
    return ETH if made is not None and made.leaf_type is LeafType.MESSAGE else claim.token


def count_value(books: Books) -> list[TokenCount]:
    """What became of LOCK and of ether. Pure."""
    flows: dict[TokenInfo, _Flows] = {token: _Flows() for token in TOKEN_NAMES}
    leaves: dict[tuple[int, int], tuple[BridgeEvent, bytes]] = {}
    networks = (books.l1, *books.rollups)
    for network in networks:
        for event in _events(network.logs, BridgeEvent):
            token = _moved_token(event)
            if token in flows:
                leaf = leaf_hash(event.bridge_exit())
                leaves[network.network_id, event.leaf_index] = (event, leaf)
                flow, key = flows[token], (network.network_id, leaf)
                flow.exits[key] += 1
                flow.amount_of[key] = event.amount
                flow.issued[network.name] -= event.amount
    for network in networks:
        _count_payments(network, flows, leaves)
    return [_token_count(token, flow, books) for token, flow in flows.items()]


def _count_payments(
    network: NetworkBooks,
    flows: Mapping[TokenInfo, _Flows],
    leaves: Mapping[tuple[int, int], tuple[BridgeEvent, bytes]],
) -> None:
    prepaid = {event.global_index for event in _events(network.logs, ContingentSettled)}
    for claim in _events(network.logs, ClaimEvent):
        index = claim.global_index
        known = leaves.get((index.network_id, index.leaf_index))
        token = _claimed_token(claim, known[0] if known else None)
        if token not in flows or index in prepaid:
            continue
        # A claim of an exit that nobody made: paid all the same, and out of nothing.
        key = (int(index.network_id), known[1] if known else b"unknown %d" % index.leaf_index)
        flow = flows[token]
        flow.paid[key] += 1
        flow.amount_of.setdefault(key, claim.amount)
        flow.issued[network.name] += claim.amount
    for mint in _events(network.logs, ContingentMint):
        if mint.token in flows:
            flow, key = flows[mint.token], (int(mint.source_network), mint.leaf)
            flow.paid[key] += 1
            flow.amount_of.setdefault(key, mint.amount)
            flow.issued[network.name] += mint.amount


def _token_count(token: TokenInfo, flow: _Flows, books: Books) -> TokenCount:
    supply = {rollup.name: rollup.holdings[token] for rollup in books.rollups}
    keys = flow.exits.keys() | flow.paid.keys()
    open_exits = {key: flow.exits[key] - flow.paid[key] for key in keys}
    unbacked = {name: amount - flow.issued[name] for name, amount in supply.items() if amount != flow.issued[name]}
    return TokenCount(
        token=TOKEN_NAMES[token],
        escrow=books.l1.holdings[token],
        supply=supply,
        in_flight=sum(max(0, count) * flow.amount_of[key] for key, count in open_exits.items()),
        created=sum(max(0, -count) * flow.amount_of[key] for key, count in open_exits.items()),
        unbacked=unbacked,
    )


def _events(logs: Iterable[BridgeLog], kind: type[Any]) -> list[Any]:
    return [log.event for log in logs if isinstance(log.event, kind)]


def value_conserved(
    counts: Sequence[TokenCount],
    *,
    is_promised: bool,
    liars: Iterable[str] = (),
    uncounted: Sequence[UncountedToken] = (),
) -> Verdict:
    """Whether value was conserved; where the mode does not promise it, only reported.

    `uncounted` are named, and judged by nobody. `liars`: rollups whose execution is unsound by the scenario. What those
    print at home is theirs alone, but the escrow must still cover what all others hold.
    """
    known = set(liars)
    parts, ok = [], True
    for count in counts:
        honest = sum(amount for name, amount in count.supply.items() if name not in known)
        broken = {name: amount for name, amount in count.unbacked.items() if name not in known}
        holds = count.is_conserved if not known else not count.created and not broken and count.escrow >= honest
        ok = ok and holds
        text = (
            f"{count.token}: {sum(count.supply.values()):,} on rollups, {count.in_flight:,} in flight, "
            f"{count.escrow:,} in escrow"
        )
        text += f", {count.created:,} created from nothing" if count.created else ""
        text += "".join(f", {name} holds {amount:,} that nothing backs" for name, amount in count.unbacked.items())
        parts.append(text)
    detail = "; ".join(parts) + _not_counted(uncounted)
    if is_promised:
        return Verdict(ok=ok, detail=detail)
    return Verdict(ok=True, detail=f"{detail} (not promised in this mode: reported, no invariant)")


def _not_counted(uncounted: Sequence[UncountedToken]) -> str:
    if not uncounted:
        return ""
    named = [
        f"{hex_of(entry.token.origin_token_address)} of network {entry.token.origin_network} ({entry.events:,} events)"
        for entry in uncounted[:MAX_NAMED]
    ]
    more = f" and {len(uncounted) - MAX_NAMED:,} more" if len(uncounted) > MAX_NAMED else ""
    return f"; not counted: {', '.join(named)}{more}"


def ranges_contiguous(ranges: Sequence[RangeSettled]) -> Verdict:
    """On L1 every range of a rollup begins after the one before it."""
    last: dict[int, int] = {}
    problems = []
    for settled in ranges:
        stated, before = settled.range, last.get(settled.network_id, 0)
        if stated.first_height != before + 1 or stated.last_height < before:
            problems.append(
                f"network {settled.network_id} settled {stated.first_height} to {stated.last_height} after {before}"
            )
        last[settled.network_id] = max(before, stated.last_height)
    detail = f"{len(ranges)} ranges of {len(last)} rollups" + "".join(f"; {problem}" for problem in problems[:5])
    return Verdict(ok=not problems, detail=detail)


def nothing_of_aborted(books: Books, aborted_txs: Iterable[bytes]) -> Verdict:
    """No exit, no mint and no claim on any rollup was made by a leg of an aborted bundle."""
    struck = set(aborted_txs)
    found = [
        f"{type(log.event).__name__} on {rollup.name} by {log.tx_hash.hex()}"
        for rollup in books.rollups
        for log in rollup.logs
        if log.tx_hash in struck
    ]
    total = sum(len(rollup.logs) for rollup in books.rollups)
    detail = f"{total:,} bridge events, {len(struck):,} legs of aborted bundles" + "".join(f"; {x}" for x in found[:5])
    return Verdict(ok=not found, detail=detail)
