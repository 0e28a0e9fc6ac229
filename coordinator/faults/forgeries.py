"""What a thief hands in while a load runs, certificates and claims, and what the real services answered.

Certificates go to the aggregation layer, first as a stranger would send them, then with the stolen keys of one rollup:
those are taken, and it is the pessimistic program that refuses them. What L1 shall pay or settle is tried, to hear why
it is refused, and then sent, so that the refusal stands in a block. Whether the honest go on is for whoever looks at
the run to say.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from typing import Any, Protocol

from coincurve import PrivateKey

from coordinator.bundle.transactions import revert_text
from coordinator.spec.testnet import ResolvedTestnet
from nodes.ethereum.account import Fees, L1Account
from nodes.ethereum.client import L1Client
from nodes.evm.agglayer_contracts import (
    BRIDGE,
    MANAGER,
    BridgeEvent,
    ClaimEvent,
    RangeSettled,
    claim_call,
    decode_log,
    mint_contingent_call,
)
from nodes.model.agglayer import (
    ETH,
    MAINNET,
    BridgeExit,
    Certificate,
    CertificateHeight,
    CertificateId,
    CertificateStatus,
    LeafType,
    Multisig,
    global_index_of,
)
from nodes.model.bundle import Trailer
from nodes.model.config import NodeEndpoint
from nodes.model.errors import CertificateRefused, InvalidInput, RpcError, TestbedError, Unavailable
from nodes.model.ids import Address, BundleHash, hex_of
from nodes.ports import NetworkProgress
from nodes.rules.certificate import certificate_commitment
from nodes.rules.exit_tree import EMPTY_LER, ExitFrontier, leaf_hash
from nodes.rules.payload import encode_trailer
from nodes.rules.signing import sign_digest
from nodes.wire.certificates import CertificateClient

THIEF = Address(bytes.fromhex("00000000000000000000000000000000bad0c0de"))
"""Whom everything that is forged would pay."""
STRANGER = PrivateKey(b"\x5e" * 32)
FORGED_ROOT = b"\xf0" * 32
TOO_MUCH_WEI = 2**200
STOLEN_WEI = 10**15
"""Asked of the escrow, which holds far more."""
TOO_HIGH = 1_000
"""Heights by which a certificate runs ahead."""
TIMEOUT_S = 120.0
"""For all of it: two certificates must be refused by the program, each at the end of an epoch."""
L1_GAS = 2_000_000
RECEIPT_DEADLINE_S = 60.0
LOG_BLOCKS = 50
_MAINNET_ROOT_AT = 4 + 65 * 32
"""In the calldata of a claim, after 64 siblings and the global index; the rollups' root follows."""


class Accepted(TestbedError):
    """What is forged was taken: a hole."""


class Site(Protocol):
    """The part of a running testnet that is attacked."""

    testnet: ResolvedTestnet
    agglayer_address: str
    l1_rpc_url: str

    def endpoint(self, node: str) -> NodeEndpoint:
        """Where a node is."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One forgery."""

    what: str
    where: str
    """Who refused it."""
    answer: str
    """Its words: the name of the error and its fields."""


async def forge(site: Site, attempts: list[Attempt]) -> None:
    """Hand everything in, one after the other, and note each refusal in `attempts` at once.

    Raises Accepted where something was not refused, Unavailable where there is nothing to forge or no answer in time.
    """
    try:
        async with asyncio.timeout(TIMEOUT_S), AsyncExitStack() as stack:
            thief = _Thief(site, attempts)
            for client in (thief.service, thief.l1, thief.rollup):
                await stack.enter_async_context(client)
            await thief.run()
    except TimeoutError:
        raise Unavailable(
            f"{len(attempts)} forgeries were refused, the next was not answered in {TIMEOUT_S:g} s"
        ) from None


class _Thief:
    """Attacks the first rollup that keeps the rules by itself, in its name and as somebody else."""

    def __init__(self, site: Site, attempts: list[Attempt]) -> None:
        testnet, layer = site.testnet, site.testnet.agglayer
        if layer is None or not layer.settle:
            raise InvalidInput("forged certificates need rollups that settle: [agglayer] settle")
        victim = next(network for network in layer.params.networks if network.name not in layer.liars)
        self._network = victim.network_id
        self._name = victim.name
        keys, needed = testnet.keys, layer.params.signer_threshold
        accounts = [keys.signer(self._network)]
        accounts += [keys.co_signer(self._network, member) for member in range(1, needed)]
        self._stolen = [PrivateKey(account.key) for account in accounts]
        self._aggregator = keys.settlement.address
        self._account = L1Account.of_hex(hex_of(keys.treasury.key), chain_id=layer.params.l1_chain_id)
        self._attempts = attempts
        self._exits: list[BridgeEvent] = []
        self._read_up_to = -1
        self.service = CertificateClient(site.agglayer_address)
        self.l1 = L1Client(site.l1_rpc_url)
        self.rollup = L1Client(site.endpoint(victim.name).rpc_url)

    async def run(self) -> None:
        async with aclosing(self.service.follow_network(self._network)) as changes:
            progress = await _settled(changes)
        await self._as_a_stranger(progress)
        await self._on_l1()
        await self._claimed_twice()
        await self._with_stolen_keys("a certificate with a forged exit root", self._forged_root)
        await self._with_stolen_keys("a certificate with an exit above the balance", self._above_balance)

    def _note(self, what: str, where: str, answer: str) -> None:
        self._attempts.append(Attempt(what=what, where=where, answer=answer))

    # Certificates that are refused at the door

    async def _as_a_stranger(self, progress: NetworkProgress) -> None:
        following = self._next(progress)
        await self._refused("a certificate of a wrong signer", _signed(following, [STRANGER] * len(self._stolen)))
        ahead = replace(following, height=CertificateHeight(following.height + TOO_HIGH))
        await self._refused("a certificate at a wrong height", _signed(ahead, self._stolen))
        settled = progress.settled
        assert settled is not None, "waited for"
        old = await self.service.certificate(self._network, settled.height)
        if old is None:
            raise Unavailable(f"certificate {settled.height} of {self._name} is not served, so it cannot be replayed")
        await self._refused("a settled certificate again", old)

    async def _refused(self, what: str, certificate: Certificate) -> None:
        try:
            taken = await self.service.submit_certificate(certificate)
        except CertificateRefused as error:
            self._note(what, "agglayer", f"{error.kind}: {error}")
        else:
            raise Accepted(f"{what} was taken as {hex_of(taken)}")

    # Certificates that the program refuses

    async def _with_stolen_keys(self, what: str, build: Any) -> None:
        """Hand one in while none of the rollup's own is on its way, until it is taken; then wait for its end."""
        async with aclosing(self.service.follow_network(self._network)) as changes:
            taken: CertificateId | None = None
            async for progress in changes:
                if taken is None:
                    taken = await self._hand_in(await build(progress))
                if taken is None:
                    continue
                header = await self.service.certificate_header(taken)
                if header is not None and header.status is CertificateStatus.IN_ERROR:
                    self._note(what, "pessimistic program", header.error)
                    return
                if header is not None and header.status in (CertificateStatus.CANDIDATE, CertificateStatus.SETTLED):
                    raise Accepted(f"{what} was proved as {hex_of(taken)}")
        raise Unavailable("the aggregation layer ended")

    async def _hand_in(self, certificate: Certificate) -> CertificateId | None:
        try:
            return await self.service.submit_certificate(_signed(certificate, self._stolen))
        except CertificateRefused:
            return None  # the rollup was faster, and its own certificate stands there

    def _next(self, progress: NetworkProgress) -> Certificate:
        """An empty one that continues what is settled."""
        settled = progress.settled
        root = EMPTY_LER if settled is None else settled.new_local_exit_root
        return Certificate(
            network_id=self._network,
            height=CertificateHeight(0 if settled is None else settled.height + 1),
            prev_local_exit_root=root,
            new_local_exit_root=root,
            bridge_exits=(),
            imported_bridge_exits=(),
        )

    async def _forged_root(self, progress: NetworkProgress) -> Certificate:
        return replace(self._next(progress), new_local_exit_root=FORGED_ROOT)

    async def _above_balance(self, progress: NetworkProgress) -> Certificate:
        """Everything in it fits, but that the rollup never had so much."""
        following, frontier = self._next(progress), ExitFrontier()
        await self._read_exits()
        for event in self._exits[: progress.settled_leaf_count]:
            frontier.append(leaf_hash(event.bridge_exit()))
        stolen = BridgeExit(
            leaf_type=LeafType.TRANSFER,
            token=ETH,
            dest_network=MAINNET,
            dest_address=THIEF,
            amount=TOO_MUCH_WEI,
            metadata_hash=None,
        )
        frontier.append(leaf_hash(stolen))
        return replace(following, new_local_exit_root=frontier.root(), bridge_exits=(stolen,))

    async def _read_exits(self) -> None:
        head = (await self.rollup.head("safe")).number
        logs = await _logs(self.rollup, BRIDGE, first=self._read_up_to + 1, last=head)
        self._exits += [event for log in logs if isinstance(event := decode_log(log), BridgeEvent)]
        self._read_up_to = max(self._read_up_to, head)

    # L1

    async def _on_l1(self) -> None:
        """A mint and a claim out of escrow, and a settlement once more."""
        trailer = encode_trailer(Trailer(BundleHash(b"\x01" * 32), 1, 2))
        mint = mint_contingent_call(
            source_network=self._network, token=ETH, dest_address=THIEF, amount=STOLEN_WEI, metadata=b""
        )
        await self._reverts("a contingent mint on L1", BRIDGE, mint + trailer)
        roots = (await self._claim_on_rollup())[_MAINNET_ROOT_AT : _MAINNET_ROOT_AT + 64]
        never_made = BridgeEvent(
            leaf_type=LeafType.TRANSFER,
            token=ETH,
            dest_network=MAINNET,
            dest_address=THIEF,
            amount=STOLEN_WEI,
            metadata=b"",
            leaf_index=0,
        )
        claim = claim_call(
            never_made,
            global_index=global_index_of(self._network, 0),
            local_siblings=[bytes(32)] * 32,
            rollup_siblings=[bytes(32)] * 32,
            mainnet_exit_root=roots[:32],
            rollup_exit_root=roots[32:],
        )
        await self._reverts("a claim on L1 of an exit that nobody made", BRIDGE, claim)
        settle = await self._calldata_of(self.l1, MANAGER, RangeSettled)
        await self._reverts("a settlement once more", MANAGER, settle)
        await self._fails(
            "a settlement once more, by the aggregator", self.l1, "L1", MANAGER, settle, sender=self._aggregator
        )

    async def _reverts(self, what: str, to: Address, calldata: bytes) -> None:
        """Tried, for the reason; then sent."""
        l1, account = self.l1, self._account
        await self._fails(what, l1, "L1", to, calldata, sender=account.address)
        signed = account.sign_call(
            to=to,
            calldata=calldata,
            nonce=await l1.nonce(account.address, "pending"),
            gas_limit=L1_GAS,
            fees=Fees.above((await l1.head()).base_fee_wei),
        )
        await l1.send_raw(signed.raw)
        (receipt,) = await l1.wait_receipts([signed.hash], deadline_s=RECEIPT_DEADLINE_S)
        if receipt.succeeded:
            raise Accepted(f"{what} succeeded in transaction {hex_of(receipt.tx_hash)}")

    async def _fails(
        self, what: str, client: L1Client, where: str, to: Address, calldata: bytes, *, sender: Address
    ) -> None:
        try:
            await client.call(to, calldata, sender=sender, gas=L1_GAS)
        except RpcError as error:
            if error.data is None:
                raise  # the node did not run it
            self._note(what, where, revert_text(error))
        else:
            raise Accepted(f"{what} succeeds on {where}")

    # The rollup

    async def _claimed_twice(self) -> None:
        claim = await self._claim_on_rollup()
        await self._fails("a claim once more", self.rollup, self._name, BRIDGE, claim, sender=THIEF)

    async def _claim_on_rollup(self) -> bytes:
        """Of the deposit that funded the rollup."""
        return await self._calldata_of(self.rollup, BRIDGE, ClaimEvent)

    async def _calldata_of(self, client: L1Client, contract: Address, kind: type[Any]) -> bytes:
        """Of the first transaction that made such an event."""
        last = (await client.head()).number
        for log in await _logs(client, contract, first=0, last=last):
            if isinstance(decode_log(log), kind):
                transaction = await client.request("eth_getTransactionByHash", log["transactionHash"])
                return bytes.fromhex(transaction["input"][2:])
        raise Unavailable(f"there is no {kind.__name__} at {client.url} yet that could be repeated")


async def _settled(changes: AsyncGenerator[NetworkProgress, None]) -> NetworkProgress:
    async for progress in changes:
        if progress.settled is not None:
            return progress
    raise Unavailable("the aggregation layer ended before a certificate was settled")


async def _logs(client: L1Client, contract: Address, *, first: int, last: int) -> list[Any]:
    found: list[Any] = []
    for start in range(first, last + 1, LOG_BLOCKS):
        found += await client.logs(first=start, last=min(last, start + LOG_BLOCKS - 1), addresses=[contract])
    return found


def _signed(certificate: Certificate, keys: Sequence[PrivateKey]) -> Certificate:
    digest = certificate_commitment(certificate)
    return replace(certificate, aggchain_data=Multisig(signatures=tuple(sign_digest(digest, key) for key in keys)))
