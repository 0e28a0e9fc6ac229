"""Funding: what a money workload moves is deposited on L1, claimed on every rollup, and paid to lanes, banks, markets.

The treasury's account does all of it, with ordinary transactions: on L1 at its node, on rollups through the sequencer.
Every step does only what is still missing (deposits and claims are read from the chains, balances too), so that it can
be done again after it broke. Nothing is minted by a back door: what stands on the rollups is escrowed on L1.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from coordinator.launch import RunningTestnet
from coordinator.spec.agglayer import BRIDGED_TOKEN, L1_CHAIN_ID
from coordinator.workload.base import Funding
from nodes.ethereum.account import Fees, L1Account, SignedTransaction
from nodes.ethereum.client import L1Client, L1Receipt
from nodes.evm.agglayer_contracts import (
    BANK,
    BRIDGE,
    GLOBAL_EXIT_ROOT,
    L1_TOKEN,
    BridgeEvent,
    bridge_asset_call,
    bridged_token_address,
    claim_call,
    decode_log,
    update_global_exit_root_call,
)
from nodes.evm.contracts import encode_call
from nodes.model.agglayer import ETH, MAINNET, GlobalIndex, MainnetClaim, NetworkId, TokenInfo, global_index_of
from nodes.model.bundle import Bundle, Leg
from nodes.model.errors import EngineFailure, RpcError, Unavailable
from nodes.model.ids import Address, LegHash, RollupId, hex_of
from nodes.model.limits import MAX_RPC_BATCH, PATIENT_DEADLINE_S
from nodes.rules.exit_tree import global_exit_root
from nodes.wire.bundles import bundle_to_bytes
from nodes.wire.certificates import CertificateClient
from nodes.wire.sequencer import SequencerClient

UNLIMITED = 2**256 - 1
L1_GAS = 400_000
CLAIM_GAS = 1_500_000
"""The first claim of a token creates it."""
TRANSFER_GAS = 80_000
LIQUIDITY_GAS = 400_000
STEP_TIMEOUT_S = 60.0
"""For one set of transactions to be in blocks."""
BASE_TIMEOUT_S = 60.0
"""For the oracle, beside the slots that finality takes."""
_MS_PER_S = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rollup:
    """One rollup, as its users see it."""

    name: str
    network_id: NetworkId
    rollup_id: RollupId
    chain_id: int
    client: L1Client
    """Of its JSON-RPC; any Ethereum client does."""


async def fund(
    running: RunningTestnet, funding: Funding, *, say: Callable[[str], None], timeout_s: float = 0.0
) -> None:
    """Bring what `funding` asks for to every rollup; returns when every balance is there.

    `timeout_s` is for the exit roots to reach the rollups; 0 = by slot time and finality. Raises Unavailable when a
    step takes too long, EngineFailure naming a transaction that reverted.
    """
    layer = running.testnet.agglayer
    assert layer is not None, "a workload that needs funding has a bridge"
    slots_s = layer.slot_time_ms / _MS_PER_S * (3 * layer.finality_slots + 3)
    funder = _Funder(running, funding, say=say, timeout_s=timeout_s or BASE_TIMEOUT_S + 2 * slots_s)
    await funder.run()


class _Funder:
    def __init__(
        self, running: RunningTestnet, funding: Funding, *, say: Callable[[str], None], timeout_s: float
    ) -> None:
        self._running = running
        self._testnet = running.testnet
        self._funding = funding
        self._say = say
        self._timeout_s = timeout_s
        treasury = self._testnet.keys.treasury
        self._treasury = treasury.address
        self._on_l1 = L1Account.of_hex(hex_of(treasury.key), chain_id=L1_CHAIN_ID)
        self._bridged = bridged_token_address(BRIDGED_TOKEN)

    async def run(self) -> None:
        needs = {BRIDGED_TOKEN: self._funding.tokens(self._testnet.lanes), ETH: self._funding.wei(self._testnet.lanes)}
        needs = {token: amount for token, amount in needs.items() if amount}
        of_user = self._running.user_address
        async with L1Client(of_user(self._running.l1_rpc_url), deadline_s=PATIENT_DEADLINE_S) as l1:
            self._say(f"funding: depositing for {len(self._running.rollups)} rollups on L1")
            deposits = await self._deposit(l1, needs)
        self._say("funding: waiting until the exit roots are on the rollups")
        async with (
            CertificateClient(of_user(self._running.agglayer_address)) as proofs,
            SequencerClient(of_user(self._running.sequencer_address)) as sequencer,
            asyncio.TaskGroup() as group,
        ):
            for number, rollup in enumerate(self._running.rollups, start=1):
                mine = [event for event in deposits if event.dest_network == number]
                group.create_task(self._fund_rollup(number, rollup.rpc_url, mine, proofs, sequencer))
        self._say("funding: done")

    # On L1

    async def _deposit(self, l1: L1Client, needs: Mapping[TokenInfo, int]) -> list[BridgeEvent]:
        """Deposit what was not deposited before; every deposit for the treasury, of this time and before."""
        made = await self._deposits(l1)
        wanted: list[tuple[bytes, bytes, int]] = []
        for number in range(1, len(self._running.rollups) + 1):
            for token, amount in needs.items():
                there = sum(event.amount for event in made if (event.dest_network, event.token) == (number, token))
                if there < amount:
                    local = L1_TOKEN if token == BRIDGED_TOKEN else ETH.origin_token_address
                    call = bridge_asset_call(
                        dest_network=number, dest_address=self._treasury, amount=amount - there, token=local
                    )
                    wanted.append((BRIDGE, call, 0 if token == BRIDGED_TOKEN else amount - there))
        if not wanted:
            return made
        approve = (L1_TOKEN, encode_call("approve(address,uint256)", BRIDGE, UNLIMITED), 0)
        # One update for all: every root on L1 is one more that the oracle has to bring.
        await self._send_l1(l1, [approve, *wanted, (BRIDGE, update_global_exit_root_call(), 0)])
        return await self._deposits(l1)

    async def _deposits(self, l1: L1Client) -> list[BridgeEvent]:
        head = await l1.head()
        events = [decode_log(log) for log in await l1.logs(first=0, last=head.number, addresses=[BRIDGE])]
        return [event for event in events if isinstance(event, BridgeEvent) and event.dest_address == self._treasury]

    async def _send_l1(self, l1: L1Client, calls: Sequence[tuple[bytes, bytes, int]]) -> None:
        nonce = await l1.nonce(self._treasury, "pending")
        fees = Fees.above((await l1.head()).base_fee_wei)
        signed: list[SignedTransaction] = [
            self._on_l1.sign_call(
                to=to, calldata=calldata, nonce=nonce + at, gas_limit=L1_GAS, fees=fees, value_wei=value_wei
            )
            for at, (to, calldata, value_wei) in enumerate(calls)
        ]
        await l1.send_raws([transaction.raw for transaction in signed])
        slot_s = self._slot_s()
        receipts = await l1.wait_receipts(
            [transaction.hash for transaction in signed], deadline_s=STEP_TIMEOUT_S + 4 * slot_s
        )
        _check_receipts(receipts, where="L1")

    def _slot_s(self) -> float:
        layer = self._testnet.agglayer
        assert layer is not None
        return layer.slot_time_ms / _MS_PER_S

    # On a rollup

    async def _fund_rollup(
        self,
        number: int,
        rpc_url: str,
        deposits: Sequence[BridgeEvent],
        proofs: CertificateClient,
        sequencer: SequencerClient,
    ) -> None:
        params = self._testnet.rollups[number - 1]
        async with L1Client(rpc_url, deadline_s=PATIENT_DEADLINE_S) as client:
            rollup = _Rollup(
                name=params.name,
                network_id=NetworkId(number),
                rollup_id=params.params.rollup_id,
                chain_id=params.chain_id,
                client=client,
            )
            open_deposits = [event for event in deposits if not await _is_claimed(client, event)]
            if open_deposits:
                claims = await self._provable(rollup, open_deposits, proofs)
                await self._send(rollup, sequencer, [(BRIDGE, claim, 0, CLAIM_GAS) for claim in claims])
            await self._send(rollup, sequencer, await self._missing(rollup))
            short = await self._missing(rollup)
            if short:
                raise EngineFailure(
                    f"{rollup.name}: {len(short)} accounts are still short of what the workload needs after all was "
                    f"paid out; the treasury {hex_of(self._treasury)} has too little, or somebody else spends from it"
                )

    async def _provable(
        self, rollup: _Rollup, deposits: Sequence[BridgeEvent], proofs: CertificateClient
    ) -> list[bytes]:
        """Calldata of all claims, once the oracle has brought a root to the rollup that they can be proved against."""
        wanted = [global_index_of(MAINNET, event.leaf_index) for event in deposits]
        known: dict[bytes, Mapping[GlobalIndex, MainnetClaim]] = {}
        try:
            async with asyncio.timeout(self._timeout_s):
                async for _ in rollup.client.new_heads():
                    offered = (await proofs.claim_proofs(wanted)).claims
                    claims = {index: claim for index, claim in offered.items() if isinstance(claim, MainnetClaim)}
                    if len(claims) == len(wanted):
                        leaf = claims[wanted[0]].l1_leaf
                        known[global_exit_root(leaf.mainnet_exit_root, leaf.rollup_exit_root)] = claims
                    for root, proved in known.items():
                        if await _has_root(rollup.client, root):
                            return [
                                _claim_call(event, index, proved[index])
                                for event, index in zip(deposits, wanted, strict=True)
                            ]
        except TimeoutError:
            raise Unavailable(
                f"{rollup.name} did not get an exit root that covers its {len(wanted)} deposits within "
                f"{self._timeout_s:g} s; {len(known)} roots were provable on L1. Is the oracle of the aggregation "
                "layer running?"
            ) from None
        raise AssertionError("heads are followed until the caller leaves")

    async def _missing(self, rollup: _Rollup) -> list[tuple[bytes, bytes, int, int]]:
        """(to, calldata, wei, gas) of what still has to be paid out."""
        funding, lanes = self._funding, [account.address for account in self._testnet.lane_accounts]
        calls: list[tuple[bytes, bytes, int, int]] = []
        if funding.lane_wei:
            held = await _balances_wei(rollup.client, lanes)
            calls += [
                (lane, b"", funding.lane_wei - amount, TRANSFER_GAS)
                for lane, amount in zip(lanes, held, strict=True)
                if amount < funding.lane_wei
            ]
        targets = [(lane, funding.lane_tokens) for lane in lanes if funding.lane_tokens]
        targets += [(BANK, funding.bank_tokens)] if funding.bank_tokens else []
        held = await _balances(rollup.client, self._bridged, [target for target, _ in targets])
        calls += [
            (self._bridged, encode_call("transfer(address,uint256)", target, need - amount), 0, TRANSFER_GAS)
            for (target, need), amount in zip(targets, held, strict=True)
            if amount < need
        ]
        for market, reserves in funding.markets.items():
            if not any(await rollup.client.call(market, encode_call("getReserves()"))):
                add = encode_call("addLiquidity(uint256,uint256,uint256)", reserves.bridged, reserves.other, 1)
                approve = encode_call("approve(address,uint256)", market, UNLIMITED)
                calls += [(self._bridged, approve, 0, TRANSFER_GAS), (market, add, 0, LIQUIDITY_GAS)]
        return calls

    async def _send(
        self, rollup: _Rollup, sequencer: SequencerClient, calls: Sequence[tuple[bytes, bytes, int, int]]
    ) -> None:
        """Plain transactions of the treasury, all of which must succeed."""
        account = L1Account.of_hex(hex_of(self._testnet.keys.treasury.key), chain_id=rollup.chain_id)
        nonce = await rollup.client.nonce(self._treasury)
        free = Fees(max_fee_wei=0, priority_fee_wei=0)
        signed = [
            account.sign_call(to=to, calldata=calldata, nonce=nonce + at, gas_limit=gas, fees=free, value_wei=value_wei)
            for at, (to, calldata, value_wei, gas) in enumerate(calls)
        ]
        for begin in range(0, len(signed), MAX_RPC_BATCH):
            part = signed[begin : begin + MAX_RPC_BATCH]
            tickets = await sequencer.submit([_plain(rollup.rollup_id, transaction.raw) for transaction in part])
            refused = next((ticket.reason for ticket in tickets if not ticket.accepted), None)
            if refused is not None:
                raise EngineFailure(f"the sequencer refused a funding transaction for {rollup.name}: {refused}")
            hashes = [transaction.hash for transaction in part]
            receipts = await rollup.client.wait_receipts(hashes, deadline_s=STEP_TIMEOUT_S)
            _check_receipts(receipts, where=rollup.name)


def _plain(rollup_id: RollupId, payload: bytes) -> bytes:
    """A transaction that travels alone, as bytes to submit."""
    leg = Leg(rollup_id=rollup_id, payload=payload, leg_hash=LegHash(b""))
    return bundle_to_bytes(Bundle(version=0, expiry=0, legs=(leg,)))


def _check_receipts(receipts: Sequence[L1Receipt], *, where: str) -> None:
    for receipt in receipts:
        if not receipt.succeeded:
            raise EngineFailure(f"funding: transaction {hex_of(receipt.tx_hash)} reverted on {where}")


def _claim_call(event: BridgeEvent, index: GlobalIndex, claim: MainnetClaim) -> bytes:
    return claim_call(
        event,
        global_index=index,
        local_siblings=claim.leaf_to_mer.siblings,
        rollup_siblings=[bytes(32)] * 32,
        mainnet_exit_root=claim.l1_leaf.mainnet_exit_root,
        rollup_exit_root=claim.l1_leaf.rollup_exit_root,
    )


async def _is_claimed(client: L1Client, event: BridgeEvent) -> bool:
    answer = await client.call(BRIDGE, encode_call("isClaimed(uint32,uint32)", event.leaf_index, int(MAINNET)))
    return any(answer)


async def _has_root(client: L1Client, root: bytes) -> bool:
    return any(await client.call(GLOBAL_EXIT_ROOT, encode_call("globalExitRootMap(bytes32)", root)))


async def _balances(client: L1Client, token: Address, owners: Sequence[Address]) -> list[int]:
    calls = [
        ("eth_call", [{"to": hex_of(token), "data": hex_of(encode_call("balanceOf(address)", owner))}, "latest"])
        for owner in owners
    ]
    return await _numbers(client, calls)


async def _balances_wei(client: L1Client, owners: Sequence[Address]) -> list[int]:
    return await _numbers(client, [("eth_getBalance", [hex_of(owner), "latest"]) for owner in owners])


async def _numbers(client: L1Client, calls: Sequence[tuple[str, Sequence[object]]]) -> list[int]:
    numbers = []
    for begin in range(0, len(calls), MAX_RPC_BATCH):
        for answer in await client.batch(calls[begin : begin + MAX_RPC_BATCH]):
            if isinstance(answer, RpcError):
                raise answer
            numbers.append(int(answer, 16))
    return numbers
