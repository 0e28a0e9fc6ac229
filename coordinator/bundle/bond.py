"""Claims against a builder's bond: fetch the promise, prove a leg that succeeded and one that did not, be paid.

Everything is checked here before it is sent, so that a claim that L1 would refuse costs nothing and says why. Whoever
sends a claim pays its gas; the money goes to the promise's user.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from coordinator.bundle.endpoints import endpoints_of
from coordinator.spec.keys import dev_account
from coordinator.spec.testnet import load_testnet
from nodes.ethereum.account import Fees, L1Account
from nodes.ethereum.client import L1Client, L1Receipt
from nodes.evm.agglayer_contracts import BOND_VAULT, MANAGER, RangeSettled, decode_log
from nodes.evm.agglayer_l1_calls import BondPromise, OutcomeProof, bond_claim_call, bond_reserve_call
from nodes.evm.contracts import packaged_reverts
from nodes.model.agglayer import NetworkId, SettledRange
from nodes.model.errors import InvalidInput, RpcError, TestbedError, Unavailable, UnknownName
from nodes.model.execution import Status
from nodes.model.ids import Address, BundleHash, TxHash, hex_of
from nodes.model.promises import BondStatus, OutcomeEvidence, PromiseState, SignedPromise
from nodes.rules.outcomes import outcome_holds
from nodes.rules.signing import recover_digest
from nodes.wire.promises import PromisesClient
from nodes.wire.rollup import RollupClient

CLAIM_GAS = 600_000
"""Limit of a claim or a reservation; a claim in a range of 65,536 legs takes about 150,000."""
RECEIPT_DEADLINE_S = 60.0
_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BondAccess:
    """Where a builder, its L1 and the rollups are reached."""

    builder_address: str
    """gRPC."""
    l1_rpc_url: str
    l1_chain_id: int
    rollups: Mapping[NetworkId, tuple[str, str]]
    """Name and gRPC address of the node that builds the rollup's certificates."""
    payer_key: str
    """Hex; its account on L1 pays the gas of claims."""

    @classmethod
    def of_directory(cls, directory: Path, *, payer_key: str = "") -> "BondAccess":
        """Of the testnet that runs in a directory. Without a key its first user's is taken.

        Raises InvalidInput where none runs, or none with a builder and an L1.
        """
        testnet = load_testnet(directory)
        with endpoints_of(directory, start="lockstep up") as document:
            addresses = {entry["name"]: entry["grpc_address"] for entry in document["rollups"]}
            builder, l1_rpc_url = document["submit_address"], document["l1_rpc_url"]
        layer = testnet.agglayer
        if layer is None or layer.builder is None or not layer.builder.promise_wei:
            raise InvalidInput(f'the testnet in {directory} has no bond; start one with atomicity = "bond"')
        return cls(
            builder_address=builder,
            l1_rpc_url=l1_rpc_url,
            l1_chain_id=layer.params.l1_chain_id,
            rollups={network.network_id: (network.name, addresses[network.name]) for network in layer.params.networks},
            payer_key=payer_key or dev_account(testnet.seed, "user", 0).key.hex(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A claim that was paid, or a reservation that was made."""

    bundle_hash: BundleHash
    user: Address
    amount_wei: int
    gas_used: int
    fee_wei: int
    tx_hash: TxHash
    l1_block: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimTotals:
    """What came of the claims for many bundles."""

    paid: tuple[Claimed, ...]
    refused: Mapping[BundleHash, str]
    """Why nothing was paid for the others."""

    @property
    def paid_wei(self) -> int:
        """To all users."""
        return sum(claimed.amount_wei for claimed in self.paid)

    @property
    def gas_used(self) -> int:
        """On L1."""
        return sum(claimed.gas_used for claimed in self.paid)


@dataclass(frozen=True, slots=True, kw_only=True)
class BondAccount:
    """What a bond carries: the closed form beside what was measured."""

    capital_wei: int
    promise_wei: int
    release_s: float | None
    """Mean time from a promise until all of its bundle was settled; None where none was kept."""
    expected_per_s: float | None
    """Promises that the bond can carry for ever: capital / (amount x release time)."""
    expected_wei_per_s: float | None
    """The same as volume: capital / release time."""
    measured_per_s: float
    """Promises that were made."""
    measured_wei_per_s: float
    lacked_bond: int
    """Bundles refused because no bond was free."""

    @classmethod
    def of(cls, status: BondStatus, *, elapsed_s: float) -> "BondAccount":
        """Of a builder's status after a load of `elapsed_s`, which must be positive."""
        release_s = status.kept_ns / status.kept / _NS_PER_S if status.kept else None
        per_s = status.bond_wei / release_s if release_s else None
        made_per_s = status.made / elapsed_s
        return cls(
            capital_wei=status.bond_wei,
            promise_wei=status.promise_wei,
            release_s=release_s,
            expected_per_s=None if per_s is None else per_s / status.promise_wei,
            expected_wei_per_s=per_s,
            measured_per_s=made_per_s,
            measured_wei_per_s=made_per_s * status.promise_wei,
            lacked_bond=status.lacked_bond,
        )


class BondClaims:
    """Use it in `async with`."""

    def __init__(self, access: BondAccess) -> None:
        self._access = access
        self._promises = PromisesClient(access.builder_address)
        self._l1 = L1Client(access.l1_rpc_url)
        self._rollups = {network: RollupClient(address) for network, (_, address) in access.rollups.items()}
        self._payer = L1Account.of_hex(access.payer_key, chain_id=access.l1_chain_id)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._promises)
        await self._stack.enter_async_context(self._l1)
        for client in self._rollups.values():
            await self._stack.enter_async_context(client)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def bond_status(self) -> BondStatus:
        """The builder's."""
        return await self._promises.bond_status()

    async def caught_up(self, *, paid: int, all_ended: bool, wait_s: float) -> BondStatus:
        """The builder's, once it has read from L1 that so many promises were paid, and that none is open where
        `all_ended`; what it is after `wait_s` otherwise. Raises Unavailable where L1 or the builder cannot be reached.
        """
        status = await self.bond_status()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s), aclosing(self._l1.new_heads()) as heads:
                while status.paid < paid or (all_ended and status.open):
                    await anext(heads)
                    status = await self.bond_status()
        return status

    async def promise(self, bundle_hash: bytes) -> tuple[SignedPromise, PromiseState]:
        """The promise of a bundle, its signature checked. Raises UnknownName, InvalidInput."""
        found = await self._promises.promise(bundle_hash)
        if found is None:
            raise UnknownName(kind="promise of bundle", name=hex_of(bundle_hash), known=())
        promise, state = found
        digest = _l1_form(promise).digest(l1_chain_id=self._access.l1_chain_id)
        if recover_digest(digest, promise.signature) != promise.builder:
            raise InvalidInput(f"the promise for {hex_of(bundle_hash)} is not signed by {hex_of(promise.builder)}")
        return promise, state

    async def claim(self, bundle_hash: bytes) -> Claimed:
        """Have the user of a partly succeeded bundle paid; returns once it is in an L1 block.

        Raises InvalidInput where nothing is owed or L1 refuses, Unavailable where not all of it is settled yet (it can
        be reserved meanwhile), UnknownName where nothing was promised.
        """
        promise, calldata = await self._prepared(bundle_hash, await self._settled_ranges())
        return await self._send_one(promise, calldata)

    async def reserve(self, bundle_hash: bytes) -> Claimed:
        """Hold the promised amount back until the promise expires, for outcomes that are not settled yet.

        Raises InvalidInput where L1 refuses, UnknownName where nothing was promised.
        """
        promise, _ = await self.promise(bundle_hash)
        calldata = bond_reserve_call(_l1_form(promise), promise.signature)
        await self._try(calldata)
        return await self._send_one(promise, calldata)

    async def claim_all(self, bundle_hashes: Iterable[bytes], *, wait_s: float = 0.0) -> ClaimTotals:
        """Claim for every one of these bundles; those that are not settled yet are tried again for `wait_s`.

        What is not owed, or not settled in time, is no error but in `ClaimTotals.refused`. Raises Unavailable where L1
        cannot be reached.
        """
        waiting = list(dict.fromkeys(map(BundleHash, bundle_hashes)))
        paid: list[Claimed] = []
        refused: dict[BundleHash, str] = {}
        deadline = asyncio.get_running_loop().time() + wait_s
        async with aclosing(self._l1.new_heads()) as heads:
            async for _ in heads:
                waiting = await self._claim_settled(waiting, paid, refused)
                if not waiting or asyncio.get_running_loop().time() >= deadline:
                    break
        return ClaimTotals(paid=tuple(paid), refused=refused)

    async def _claim_settled(
        self, bundles: Sequence[BundleHash], paid: list[Claimed], refused: dict[BundleHash, str]
    ) -> list[BundleHash]:
        """Claim for those that can be; returns those that can be later, and why is in `refused` until then."""
        ranges = await self._settled_ranges()
        ready: list[tuple[SignedPromise, bytes]] = []
        later: list[BundleHash] = []
        for bundle in bundles:
            try:
                ready.append(await self._prepared(bundle, ranges))
                refused.pop(bundle, None)
            except TestbedError as error:
                refused[bundle] = str(error)
                if isinstance(error, Unavailable):
                    later.append(bundle)
        for sent in await self._send(ready):
            if isinstance(sent, Claimed):
                paid.append(sent)
            else:
                refused[sent.bundle_hash] = str(sent)
        return later

    # Making a claim.

    async def _prepared(
        self, bundle_hash: bytes, ranges: Mapping[NetworkId, Sequence[SettledRange]]
    ) -> tuple[SignedPromise, bytes]:
        promise, state = await self.promise(bundle_hash)
        if state is PromiseState.PAID:
            raise InvalidInput(f"the promise for {hex_of(bundle_hash)} was paid already")
        evidence = [
            await self._rollup(network).outcome_proofs(bundle_hash, leg_index)
            for network, leg_index in promise.placements
        ]
        failed, succeeded = self._split(promise, evidence)
        proofs = [
            self._proof(promise, placement, found, ranges.get(promise.placements[placement][0], ()))
            for placement, found in (failed, succeeded)
        ]
        calldata = bond_claim_call(_l1_form(promise), promise.signature, failed=proofs[0], succeeded=proofs[1])
        await self._try(calldata)
        return promise, calldata

    def _rollup(self, network: NetworkId) -> RollupClient:
        if network not in self._rollups:
            raise InvalidInput(f"the promise names network {network}, which this testnet does not have")
        return self._rollups[network]

    def _split(
        self, promise: SignedPromise, evidence: Sequence[Sequence[OutcomeEvidence]]
    ) -> tuple[tuple[int, OutcomeEvidence], tuple[int, OutcomeEvidence]]:
        """A leg that failed and one that succeeded at the same height, by placement."""
        heights = sorted({found.outcome.height for proofs in evidence for found in proofs})
        for height in heights:
            here = [
                (placement, found)
                for placement, proofs in enumerate(evidence)
                for found in proofs
                if found.outcome.height == height
            ]
            failed = next((item for item in here if item[1].outcome.status is not Status.SUCCEEDED), None)
            succeeded = next((item for item in here if item[1].outcome.status is Status.SUCCEEDED), None)
            if failed is not None and succeeded is not None:
                return failed, succeeded
        missing = next((placement for placement, proofs in enumerate(evidence) if not proofs), None)
        if missing is not None:
            network, leg_index = promise.placements[missing]
            raise Unavailable(
                f"leg {leg_index} on {self._access.rollups[network][0]} is in no certificate yet; try again later, or "
                "reserve the amount meanwhile"
            )
        raise InvalidInput("all legs of the bundle had one fate; nothing is owed for it")

    def _proof(
        self, promise: SignedPromise, placement: int, found: OutcomeEvidence, ranges: Sequence[SettledRange]
    ) -> OutcomeProof:
        name = self._access.rollups[promise.placements[placement][0]][0]
        height = found.outcome.height
        settled = next((one for one in ranges if one.first_height <= height <= one.last_height), None)
        if settled is None:
            raise Unavailable(
                f"height {height} of {name} is not settled on L1 yet; try again later, or reserve the amount meanwhile"
            )
        if not outcome_holds(found.outcome, found.position, found.siblings, settled.outcome_root):
            raise InvalidInput(
                f"{name} states {found.outcome.status.name.lower()} at height {height}, which is not under the outcome "
                f"root that L1 holds for heights {settled.first_height} to {settled.last_height}"
            )
        return OutcomeProof(
            placement=placement,
            settled_height=settled.last_height,
            height=height,
            status=found.outcome.status,
            position=found.position,
            siblings=found.siblings,
        )

    async def _settled_ranges(self) -> dict[NetworkId, list[SettledRange]]:
        head = await self._l1.head()
        ranges: dict[NetworkId, list[SettledRange]] = {}
        for log in await self._l1.logs(first=0, last=head.number, addresses=(MANAGER,)):
            event = decode_log(log)
            if isinstance(event, RangeSettled):
                ranges.setdefault(event.network_id, []).append(event.range)
        return ranges

    # Sending.

    async def _try(self, calldata: bytes) -> None:
        try:
            await self._l1.call(BOND_VAULT, calldata, sender=self._payer.address, gas=CLAIM_GAS)
        except RpcError as error:
            raise InvalidInput(f"L1 refuses it: {_revert_text(error)}") from error

    async def _send_one(self, promise: SignedPromise, calldata: bytes) -> Claimed:
        (sent,) = await self._send([(promise, calldata)])
        if isinstance(sent, Claimed):
            return sent
        raise sent

    async def _send(self, calls: Sequence[tuple[SignedPromise, bytes]]) -> "list[Claimed | _Reverted]":
        if not calls:
            return []
        first = await self._l1.nonce(self._payer.address, "pending")
        fees = Fees.above((await self._l1.head()).base_fee_wei)
        signed = [
            self._payer.sign_call(to=BOND_VAULT, calldata=calldata, nonce=first + at, gas_limit=CLAIM_GAS, fees=fees)
            for at, (_, calldata) in enumerate(calls)
        ]
        hashes = await self._l1.send_raws([transaction.raw for transaction in signed])
        receipts = await self._l1.wait_receipts(hashes, deadline_s=RECEIPT_DEADLINE_S)
        return [_claimed(promise, receipt) for (promise, _), receipt in zip(calls, receipts, strict=True)]


class _Reverted(InvalidInput):
    """What was sent was reverted, although a trial of it had succeeded."""

    def __init__(self, promise: SignedPromise) -> None:
        super().__init__(
            "L1 reverted the claim, although a trial of it had succeeded: the promise expired, the bond is used up, "
            "or somebody was faster; try again to hear the reason"
        )
        self.bundle_hash = promise.bundle_hash


def _claimed(promise: SignedPromise, receipt: L1Receipt) -> Claimed | _Reverted:
    if not receipt.succeeded:
        return _Reverted(promise)
    return Claimed(
        bundle_hash=promise.bundle_hash,
        user=promise.user,
        amount_wei=promise.amount_wei,
        gas_used=receipt.gas_used,
        fee_wei=receipt.gas_used * receipt.gas_price_wei,
        tx_hash=receipt.tx_hash,
        l1_block=receipt.block_number,
    )


def _l1_form(promise: SignedPromise) -> BondPromise:
    return BondPromise(
        builder=promise.builder,
        bundle_hash=promise.bundle_hash,
        user=promise.user,
        amount=promise.amount_wei,
        expiry_block=promise.expiry_block,
        placements=promise.placements,
    )


def _revert_text(error: RpcError) -> str:
    data: Any = error.data
    if isinstance(data, str) and data.startswith("0x"):
        return packaged_reverts().text(bytes.fromhex(data[2:]))
    return error.message
