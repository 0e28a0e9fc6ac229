"""Value that crosses the bridge alone: exits of L1 and rollups, what became of each, and their claims.

What goes within a bundle is `coordinator.bundle.bridge`. A claim waits for what it rests on: an exit of L1 for the
oracle that brings its root to the rollup, an exit of a rollup for its certificate to be settled on L1 before that.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from coordinator.bundle.endpoints import endpoints_of
from coordinator.bundle.transactions import Call, Sender
from coordinator.spec.keys import dev_account
from coordinator.spec.testnet import load_testnet
from nodes.ethereum.client import L1Client, L1Receipt
from nodes.evm.agglayer_contracts import (
    BRIDGE,
    GLOBAL_EXIT_ROOT,
    TREE_DEPTH,
    BridgeEvent,
    ContingentMint,
    bridge_asset_call,
    claim_call,
    decode_log,
    local_token_address,
)
from nodes.evm.contracts import encode_call
from nodes.model.agglayer import ETH, MAINNET, Claim, GlobalIndex, MainnetClaim, NetworkId, global_index_of
from nodes.model.errors import InvalidInput, Unavailable, UnknownName
from nodes.model.ids import Address, ChainId, hex_of
from nodes.rules.exit_tree import global_exit_root, leaf_hash
from nodes.wire.certificates import CertificateClient

L1 = "l1"
CLAIMED, PAID_IN_BUNDLE, CLAIMABLE, WAITING = "claimed", "paid in its bundle", "claimable", "waiting"
ETHER_DECIMALS = 18
MAX_ROOTS = 64
"""Proofs of so many exit roots are kept while none of them is where the claim is made."""
LOG_BLOCKS = 50
"""Of one request for logs: a busy rollup has 100 a block, and none answers more than 10,000."""
ALLOWED = 2**256 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One side of a crossing."""

    network_id: NetworkId
    name: str
    rpc_url: str
    chain_id: ChainId


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeAccess:
    """Where the networks of a testnet, and its proofs of claims, are reached."""

    agglayer_address: str
    """gRPC."""
    networks: tuple[Network, ...]
    """L1 first, then the rollups."""
    user_key: str
    """Of the testnet's first user, who is taken where no other key is given."""
    settles: bool
    """Without it exits of rollups never come to L1; only deposits can be claimed."""

    @classmethod
    def of_directory(cls, directory: Path) -> "BridgeAccess":
        """Of the testnet that runs in a directory. Raises InvalidInput where none runs, or none with a bridge."""
        testnet = load_testnet(directory)
        with endpoints_of(directory, start="lockstep up --scenario bridge") as document:
            urls = {entry["name"]: entry["rpc_url"] for entry in document["rollups"]}
            agglayer, l1_rpc_url = document["agglayer_address"], document["l1_rpc_url"]
        if testnet.agglayer is None:
            raise InvalidInput(f"the testnet in {directory} has no bridge; `lockstep up --scenario bridge` starts one")
        params = testnet.agglayer.params
        l1 = Network(network_id=MAINNET, name=L1, rpc_url=l1_rpc_url, chain_id=ChainId(params.l1_chain_id))
        rollups = [
            Network(network_id=one.network_id, name=one.name, rpc_url=urls[one.name], chain_id=one.chain_id)
            for one in params.networks
        ]
        user_key = dev_account(testnet.seed, "user", 0).key.hex()
        return cls(
            agglayer_address=agglayer,
            networks=(l1, *rollups),
            user_key=user_key,
            settles=testnet.agglayer.settle,
        )

    def network(self, name: str) -> Network:
        """By name. Raises UnknownName."""
        found = next((network for network in self.networks if network.name == name), None)
        if found is None:
            raise UnknownName(kind="network", name=name, known=[network.name for network in self.networks])
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """One exit, and how far it has come."""

    source: Network
    dest: Network
    exit: BridgeEvent
    state: str
    """One of the states above."""
    why: str = ""
    """What a waiting one waits for."""

    @property
    def index(self) -> GlobalIndex:
        """By which it is claimed."""
        return global_index_of(self.source.network_id, self.exit.leaf_index)

    def __str__(self) -> str:
        return f"exit {self.exit.leaf_index} of {self.source.name} to {self.dest.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """An exit that was made, or a claim that was paid."""

    source: Network
    dest: Network
    exit: BridgeEvent
    receipt: L1Receipt


class BridgeUser:
    """What one account may do at the bridges. Use it in `async with`."""

    def __init__(self, access: BridgeAccess, key: str = "") -> None:
        """Without a key the first user's. Raises InvalidInput for what is no key."""
        self._access = access
        self._clients = {network.network_id: L1Client(network.rpc_url) for network in access.networks}
        self._senders = {
            network.network_id: Sender(
                self._clients[network.network_id],
                key or access.user_key,
                chain_id=network.chain_id,
                chain=network.name,
                pays_tips=network.network_id == MAINNET,
            )
            for network in access.networks
        }
        self._proofs = CertificateClient(access.agglayer_address)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._proofs)
        for client in self._clients.values():
            await self._stack.enter_async_context(client)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def address(self) -> Address:
        """Of the account; the same on every network."""
        return self._senders[MAINNET].address

    def network(self, name: str) -> Network:
        """A network of the testnet. Raises UnknownName."""
        return self._access.network(name)

    # Exits

    async def send(
        self, source: str, dest: str, amount: str, *, token: Address | None = None, recipient: Address | None = None
    ) -> Done:
        """Make an exit of an amount in whole tokens; returns when it is in a block.

        `token` is an address on the source, left out = ether. Without a recipient it goes to the account itself.

        Raises InvalidInput where the source refuses it, UnknownName, Unavailable.
        """
        here, there = self._access.network(source), self._access.network(dest)
        if here == there:
            raise InvalidInput(f"an exit goes from one network to another; both are {source}")
        units = amount_of(amount, await self._decimals(here, token))
        exit_call = bridge_asset_call(
            dest_network=there.network_id,
            dest_address=recipient or self.address,
            amount=units,
            token=token or ETH.origin_token_address,
            # On L1 a root covers an exit only once somebody has asked for it; a rollup's come with its certificates.
            updates_global_exit_root=here.network_id == MAINNET,
        )
        calls = [Call(to=BRIDGE, calldata=exit_call, value_wei=0 if token else units)]
        if token is not None and await self._lacks_allowance(here, token, units):
            approve = encode_call("approve(address,uint256)", BRIDGE, ALLOWED)
            calls.insert(0, Call(to=token, calldata=approve))
        receipt = (await self._senders[here.network_id].send(calls))[-1]
        made = next(event for log in receipt.logs if isinstance(event := decode_log(log), BridgeEvent))
        return Done(source=here, dest=there, exit=made, receipt=receipt)

    async def _decimals(self, network: Network, token: Address | None) -> int:
        if token is None:
            return ETHER_DECIMALS
        answer = await self._clients[network.network_id].call(token, encode_call("decimals()"))
        if not answer:
            raise InvalidInput(f"{hex_of(token)} is no token on {network.name}; give its address there")
        return int.from_bytes(answer, "big")

    async def _lacks_allowance(self, network: Network, token: Address, amount: int) -> bool:
        """The bridge takes a token that lives here, and burns one that came from elsewhere without asking."""
        client = self._clients[network.network_id]
        origin = await client.call(BRIDGE, encode_call("wrappedTokenToTokenInfo(address)", token))
        if any(origin):
            return False
        allowed = await client.call(token, encode_call("allowance(address,address)", self.address, BRIDGE))
        return int.from_bytes(allowed, "big") < amount

    # What became of them

    async def crossings(self, account: Address | None = None) -> list[Crossing]:
        """Every exit that pays an account (without one: its own), by source, and how far it has come."""
        wanted = account or self.address
        by_id = {network.network_id: network for network in self._access.networks}
        made: list[tuple[Network, Network, BridgeEvent]] = []
        mints: dict[NetworkId, Counter[tuple[int, bytes]]] = {}
        for network in self._access.networks:
            events = await self._events(network)
            mints[network.network_id] = Counter(
                (int(event.source_network), event.leaf) for event in events if isinstance(event, ContingentMint)
            )
            made += [
                (network, by_id[event.dest_network], event)
                for event in events
                if isinstance(event, BridgeEvent) and event.dest_address == wanted and event.dest_network in by_id
            ]
        proofs = await self._proofs_of([global_index_of(source.network_id, one.leaf_index) for source, _, one in made])
        found = []
        for source, dest, one in made:
            state, why = await self._state(source, dest, one, proofs, mints[dest.network_id])
            found.append(Crossing(source=source, dest=dest, exit=one, state=state, why=why))
        return found

    async def _events(self, network: Network) -> list[object]:
        client = self._clients[network.network_id]
        head = (await client.head()).number
        events: list[object] = []
        for first in range(0, head + 1, LOG_BLOCKS):
            logs = await client.logs(first=first, last=min(head, first + LOG_BLOCKS - 1), addresses=[BRIDGE])
            events += map(decode_log, logs)
        return events

    async def _state(
        self,
        source: Network,
        dest: Network,
        one: BridgeEvent,
        proofs: Mapping[GlobalIndex, Claim],
        minted: Counter[tuple[int, bytes]],
    ) -> tuple[str, str]:
        """State and what is waited for. Takes a mint that stands for the exit out of `minted`."""
        client = self._clients[dest.network_id]
        leaf = (int(source.network_id), leaf_hash(one.bridge_exit()))
        is_paid = bool(minted[leaf])
        if is_paid:
            minted[leaf] -= 1
        if any(await client.call(BRIDGE, encode_call("isClaimed(uint32,uint32)", one.leaf_index, source.network_id))):
            return PAID_IN_BUNDLE if is_paid else CLAIMED, ""
        if is_paid:
            return PAID_IN_BUNDLE, ""
        claim = proofs.get(global_index_of(source.network_id, one.leaf_index))
        if claim is None:
            what = f"the certificate of {source.name} that holds it is not settled on L1 yet"
            if source.network_id == MAINNET:
                what = "no exit root of L1 covers it yet"
            elif not self._access.settles:
                what = f"{source.name} sends no certificates in this mode, so that it never settles"
            return WAITING, what
        if not await self._has_root(dest, _root_of(claim)):
            return WAITING, f"the newest exit root of L1 is not on {dest.name} yet"
        return CLAIMABLE, ""

    async def _proofs_of(self, wanted: Sequence[GlobalIndex]) -> Mapping[GlobalIndex, Claim]:
        return (await self._proofs.claim_proofs(wanted)).claims if wanted else {}

    async def _has_root(self, network: Network, root: bytes) -> bool:
        known = encode_call("globalExitRootMap(bytes32)", root)
        return any(await self._clients[network.network_id].call(GLOBAL_EXIT_ROOT, known))

    # Claims

    async def claim(self, crossing: Crossing, *, wait_s: float) -> Done:
        """Have an exit paid to its recipient; returns when the claim is in a block. This account pays for the claim.

        Raises InvalidInput where it was paid already or the bridge refuses it, Unavailable where it cannot be proved at
        its destination within `wait_s`.
        """
        if crossing.state in (CLAIMED, PAID_IN_BUNDLE):
            raise InvalidInput(f"{crossing} was paid before: {crossing.state}")
        if crossing.source.network_id != MAINNET and not self._access.settles:
            raise InvalidInput(f"{crossing} cannot be claimed: {crossing.why}")
        claim = await self._provable(crossing, wait_s)
        receipt = (await self._senders[crossing.dest.network_id].send([_claim_call(crossing, claim)]))[0]
        return Done(source=crossing.source, dest=crossing.dest, exit=crossing.exit, receipt=receipt)

    async def _provable(self, crossing: Crossing, wait_s: float) -> Claim:
        """A proof under a root that the destination has. Looked for at every block of L1, which come in any case."""
        made: deque[Claim] = deque(maxlen=MAX_ROOTS)
        try:
            found = await self._proof_there(crossing, made)
            async with asyncio.timeout(wait_s), aclosing(self._clients[MAINNET].new_heads()) as heads:
                while found is None:
                    await anext(heads)
                    found = await self._proof_there(crossing, made)
        except TimeoutError:
            why = f"no exit root that covers it is on {crossing.dest.name}" if made else crossing.why
            raise Unavailable(
                f"{crossing} cannot be claimed after {wait_s:g} s: {why}. Try again later, or with a longer --wait; "
                "`lockstep status` says whether all nodes are well"
            ) from None
        return found

    async def _proof_there(self, crossing: Crossing, made: deque[Claim]) -> Claim | None:
        """A proof whose root the destination has by now. Earlier ones are kept: roots come there one by one."""
        claim = (await self._proofs_of([crossing.index])).get(crossing.index)
        if claim is not None and _root_of(claim) not in map(_root_of, made):
            made.append(claim)
        for known in made:
            if await self._has_root(crossing.dest, _root_of(known)):
                return known
        return None


def _root_of(claim: Claim) -> bytes:
    return global_exit_root(claim.l1_leaf.mainnet_exit_root, claim.l1_leaf.rollup_exit_root)


def _claim_call(crossing: Crossing, claim: Claim) -> Call:
    if isinstance(claim, MainnetClaim):
        local, rollup = claim.leaf_to_mer.siblings, (bytes(32),) * TREE_DEPTH
    else:
        local, rollup = claim.leaf_to_ler.siblings, claim.ler_to_rer.siblings
    calldata = claim_call(
        crossing.exit,
        global_index=crossing.index,
        local_siblings=local,
        rollup_siblings=rollup,
        mainnet_exit_root=claim.l1_leaf.mainnet_exit_root,
        rollup_exit_root=claim.l1_leaf.rollup_exit_root,
    )
    return Call(to=BRIDGE, calldata=calldata)


def amount_of(text: str, decimals: int) -> int:
    """Units of an amount in whole tokens. Raises InvalidInput where it is none, or finer than a unit."""
    whole, _, fraction = text.strip().partition(".")
    digits = whole + fraction
    units = int(whole + fraction.ljust(decimals, "0")) if digits.isdecimal() and digits.isascii() else 0
    if not 0 < units < 2**256 or len(fraction) > decimals:
        raise InvalidInput(f"amount {text!r} must be a positive number with at most {decimals} decimals")
    return units


def token_on(network: Network, exit_event: BridgeEvent) -> Address | None:
    """What the recipient of an exit gets on a network: the address of a token there, None for ether."""
    address = local_token_address(exit_event.token, network_id=network.network_id)
    return address if any(address) else None
