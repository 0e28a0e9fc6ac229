"""The super builder between users and a real testnet: what it orders, what it refuses and why, and who is paid."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from coincurve import PrivateKey

from coordinator.bundle.bond import BondAccess, BondAccount, BondClaims
from coordinator.launch.inprocess import InProcessLauncher
from coordinator.launch.running import RunningTestnet
from coordinator.spec import ResolvedTestnet
from coordinator.spec.keys import DevAccount, dev_account
from nodes.agglayer import builder as builder_module
from nodes.agglayer.builder import BuilderNode
from nodes.ethereum.account import Fees, L1Account
from nodes.ethereum.client import L1Client
from nodes.evm.agglayer_contracts import BOND_VAULT, BRIDGE, bridge_asset_call, mint_contingent_call
from nodes.evm.agglayer_l1_calls import bond_request_withdrawal_call, bond_withdraw_call
from nodes.evm.contracts import packaged_reverts
from nodes.model.agglayer import ETH
from nodes.model.config import BuilderNodeConfig
from nodes.model.errors import InvalidInput, Overloaded, RpcError, Unavailable, UnknownName
from nodes.model.ids import Address, BundleHash, hex_of
from nodes.model.promises import PromiseState
from nodes.ports import Ticket
from nodes.telemetry.clock import SystemClock
from nodes.telemetry.crash import CrashPoint, no_crash
from nodes.telemetry.tracer import MemoryTracer
from nodes.wire.promises import PromisesClient
from nodes.wire.sequencer import SequencerClient
from tests.support.bonds import Call, bonded_testnet, increment, signed_bundle
from tests.support.hosts import until_executed
from tests.support.patience import PATIENCE_S

TENTH_WEI = 10**17
SOMEBODY = Address(b"\x5a" * 20)


@dataclass
class World:
    testnet: ResolvedTestnet
    running: RunningTestnet
    builder: SequencerClient
    sequencer: SequencerClient
    promises: PromisesClient
    l1: L1Client

    def lane(self, index: int) -> DevAccount:
        return self.testnet.lane_accounts[index]

    def counters(
        self, lane: int, first: tuple[int, int], second: tuple[int, int], *, nonce: int = 0
    ) -> tuple[bytes, bytes]:
        """A bundle of a leg on each rollup: (counter, value that it must have)."""
        return signed_bundle(
            self.testnet,
            [
                increment(self.testnet, 0, lane, nonce=nonce, key=first[0], expected=first[1]),
                increment(self.testnet, 1, lane, nonce=nonce, key=second[0], expected=second[1]),
            ],
        )

    async def fates(self, identity: bytes, *, legs: int = 1) -> list[str]:
        found = []
        for rollup in self.running.rollups:
            found += await until_executed(rollup.grpc_address, identity, legs=legs)
        return found

    async def until_closed(self, identity: bytes, state: PromiseState) -> None:
        async with asyncio.timeout(PATIENCE_S):
            async for _ in self.l1.new_heads():
                found = await self.promises.promise(identity)
                if found is not None and found[1] is state:
                    return


@pytest.fixture(autouse=True)
def patient_builder(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a machine that stands still for seconds must not change: whether a rollup can be asked."""
    monkeypatch.setattr(builder_module, "FORWARD_DEADLINE_S", PATIENCE_S)
    monkeypatch.setattr(builder_module, "READ_DEADLINE_S", PATIENCE_S)


@asynccontextmanager
async def world(directory: Path, testnet: ResolvedTestnet) -> AsyncIterator[World]:
    async with (
        InProcessLauncher().start(testnet, directory) as running,
        SequencerClient(running.submit_address) as builder,
        SequencerClient(running.sequencer_address) as sequencer,
        PromisesClient(running.submit_address) as promises,
        L1Client(running.l1_rpc_url) as l1,
    ):
        yield World(testnet, running, builder, sequencer, promises, l1)


def reasons(tickets: list[Ticket]) -> list[str]:
    return [ticket.reason for ticket in tickets]


async def test_a_batch_is_judged_together_and_refusals_say_why(tmp_path: Path) -> None:
    async with world(tmp_path, bonded_testnet(batch_ms=30)) as w:
        first, one = w.counters(0, (1, 0), (1, 0))
        rival, _ = w.counters(1, (1, 0), (2, 0))
        behind, three = w.counters(2, (1, 1), (1, 1))
        early, _ = w.counters(3, (3, 0), (3, 0), nonce=4)
        poor, _ = signed_bundle(
            w.testnet,
            [
                increment(w.testnet, 0, 4, key=5, expected=0),
                Call(rollup=1, sender=w.lane(4), nonce=0, to=SOMEBODY, value=10**40),
            ],
        )
        after_poor, six = w.counters(5, (5, 0), (5, 0))
        tickets = await w.builder.submit([first, rival, behind, early, poor, after_poor])
        assert reasons(tickets) == [
            "",
            "leg 0 on rollup-1 reverts: Unexpected(actual=1, expected=0)",
            "",
            "leg 0 on rollup-1 cannot execute: nonce too high: it has 4, the account's next is 0",
            "leg 1 on rollup-2 cannot execute: insufficient funds",
            "",
        ]
        for identity in (one, three, six):
            assert await w.fates(identity) == ["succeeded", "succeeded"]
        # The same bytes again are a duplicate, whatever the nonces say now.
        (again,) = await w.builder.submit([first])
        assert again.accepted
        assert again.duplicate
        status = await w.builder.status()
        assert status.backend == "lazy"


async def test_bundles_behind_one_another_need_not_wait_for_blocks(tmp_path: Path) -> None:
    async with world(tmp_path, bonded_testnet(bond_eth=20.0)) as w:
        made = [w.counters(0, (7, step), (7, step), nonce=step) for step in range(12)]
        for submission, _ in made:
            (ticket,) = await w.builder.submit([submission])
            assert ticket.accepted, ticket.reason
        for _, identity in made:
            assert await w.fates(identity) == ["succeeded", "succeeded"]


async def test_promises_are_within_the_bond_and_end_when_settled(tmp_path: Path) -> None:
    async with world(tmp_path, bonded_testnet(bond_eth=0.2)) as w:
        made = [w.counters(lane, (lane, 0), (lane, 0)) for lane in range(3)]
        tickets = await w.builder.submit([submission for submission, _ in made])
        assert [ticket.accepted for ticket in tickets] == [True, True, False]
        assert tickets[2].reason.startswith(
            "no free bond: 2 open promises bind 200000000000000000 of 200000000000000000"
        )
        found = await w.promises.promise(made[0][1])
        assert found is not None
        assert (found[0].amount_wei, found[0].user) == (TENTH_WEI, w.lane(0).address)
        assert await w.promises.promise(made[2][1]) is None
        for _, identity in made[:2]:
            await w.until_closed(identity, PromiseState.KEPT)
        (ticket,) = await w.builder.submit([made[2][0]])
        assert ticket.accepted
        status = await w.promises.bond_status()
        assert (status.made, status.lacked_bond, status.not_whole) == (3, 1, 0)
        assert status.kept == 3 - status.open >= 2
        account = BondAccount.of(status, elapsed_s=2.0)
        assert account.release_s is not None
        assert account.expected_per_s == pytest.approx(0.2 / (0.1 * account.release_s))


async def test_a_careless_builder_pays_the_user_once(tmp_path: Path) -> None:
    testnet = bonded_testnet(careless=True, memory_heights=10)
    async with world(tmp_path, testnet) as w:
        whole, good = w.counters(0, (1, 0), (1, 0))
        split, bad = w.counters(1, (2, 0), (2, 99))
        assert all(ticket.accepted for ticket in await w.builder.submit([whole, split]))
        assert await w.fates(good) == ["succeeded", "succeeded"]
        assert await w.fates(bad) == ["succeeded", "reverted"]
        access = BondAccess.of_directory(tmp_path)
        async with BondClaims(access) as claims:
            # Held at once, so the builder cannot take it away before the outcome is settled.
            held = await claims.reserve(bad)
            assert held.amount_wei == TENTH_WEI
            await ask_everything_back(w)
            assert await withdrawal_refusal(w) == f"BondTooSmall(available={9 * TENTH_WEI}, needed={10 * TENTH_WEI})"
            totals = await claims.claim_all([good, bad, b"\x01" * 32], wait_s=PATIENCE_S)
            (paid,) = totals.paid
            assert (paid.bundle_hash, paid.user, paid.amount_wei) == (bad, w.lane(1).address, TENTH_WEI)
            assert 0 < paid.gas_used < 200_000
            assert await w.l1.balance_wei(w.lane(1).address) == TENTH_WEI
            assert "had one fate" in totals.refused[BundleHash(good)]
            assert "unknown promise" in totals.refused[BundleHash(b"\x01" * 32)]
            await w.until_closed(bad, PromiseState.PAID)
            with pytest.raises(InvalidInput, match="paid already"):
                await claims.claim(bad)
            await w.until_closed(good, PromiseState.KEPT)
            # The public bundles again, past the builder: nothing of them executes, and nothing more is owed.
            await replay(w, [whole, split], good)
            with pytest.raises(InvalidInput, match="had one fate"):
                await claims.claim(good)
            with pytest.raises(UnknownName):
                await claims.claim(b"\x02" * 32)
        status = await w.promises.bond_status()
        # What it asked back answers for no new promise.
        assert (status.paid, status.not_whole, status.bond_wei) == (1, 1, 0)


async def ask_everything_back(w: World) -> None:
    """The builder asks for its whole bond."""
    layer = w.testnet.agglayer
    assert layer is not None
    assert layer.builder is not None
    account = L1Account(PrivateKey(w.testnet.keys.builder.key), chain_id=layer.params.l1_chain_id)
    signed = account.sign_call(
        to=BOND_VAULT,
        calldata=bond_request_withdrawal_call(amount=layer.builder.bond_wei),
        nonce=await w.l1.nonce(account.address),
        gas_limit=200_000,
        fees=Fees.above((await w.l1.head()).base_fee_wei),
    )
    (receipt,) = await w.l1.wait_receipts([await w.l1.send_raw(signed.raw)], deadline_s=PATIENCE_S)
    assert receipt.succeeded


async def withdrawal_refusal(w: World) -> str:
    """What L1 would say to the builder's withdrawal, were the delay over now."""
    request = {
        "from": hex_of(w.testnet.keys.builder.address),
        "to": hex_of(BOND_VAULT),
        "data": hex_of(bond_withdraw_call()),
    }
    with pytest.raises(RpcError) as refused:
        await w.l1.request("eth_call", request, "latest", {}, {"number": hex(10**6)})
    assert isinstance(refused.value.data, str)
    return packaged_reverts().text(bytes.fromhex(refused.value.data[2:]))


async def replay(w: World, submissions: list[bytes], identity: bytes) -> None:
    """Submit again once the sequencer has forgotten the bytes, and wait until the rollups have met them."""
    async with asyncio.timeout(PATIENCE_S):
        async for _ in w.l1.new_heads():
            if not any(ticket.duplicate for ticket in await w.sequencer.submit(submissions)):
                break
    assert await w.fates(identity, legs=2) == ["skipped", "succeeded"] * 2


async def test_a_rollup_that_cannot_be_asked_stops_only_bundles_for_it(tmp_path: Path) -> None:
    testnet = bonded_testnet()
    async with world(tmp_path / "testnet", testnet) as w:
        config = builder_config(w, {"rollup-1": w.running.rollups[0].rpc_url, "rollup-2": "http://127.0.0.1:9"})
        async with running_builder(config, tmp_path) as builder:
            both, _ = w.counters(0, (1, 0), (1, 0))
            one, identity = signed_bundle(
                testnet,
                [increment(testnet, 0, 1, nonce=nonce, key=2, expected=nonce) for nonce in range(2)],
            )
            with pytest.raises(Overloaded, match="rollup-2 cannot be simulated"):
                await builder.submit([both])
            (ticket,) = await builder.submit([one])
            assert ticket.accepted, ticket.reason
            assert await until_executed(w.running.rollups[0].grpc_address, identity, legs=2) == ["succeeded"] * 2
            with pytest.raises(Unavailable, match="promises nothing"):
                await builder.bond_status()


async def test_a_sequencer_that_does_not_answer_is_no_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = BuilderNode._sequenced

    async def in_a_hurry(builder: BuilderNode, submissions: Sequence[bytes]) -> list[Ticket]:
        with monkeypatch.context() as hurry:
            hurry.setattr(builder_module, "FORWARD_DEADLINE_S", 0.4)
            return await forward(builder, submissions)

    testnet = bonded_testnet()
    async with world(tmp_path / "testnet", testnet) as w:
        urls = {rollup.name: rollup.rpc_url for rollup in w.running.rollups}
        submission, identity = w.counters(0, (1, 0), (1, 0))
        lost = replace(builder_config(w, urls), sequencer_endpoints=("127.0.0.1:9",))
        async with running_builder(lost, tmp_path) as builder:
            with monkeypatch.context() as hurry:
                hurry.setattr(BuilderNode, "_sequenced", in_a_hurry)
                with pytest.raises(Unavailable, match="the sequencer"):
                    await builder.submit([submission])
            # It was taken meanwhile, without an answer: the same bytes are not judged by nonces that have moved since.
            await w.sequencer.submit([submission])
            assert await w.fates(identity) == ["succeeded", "succeeded"]
            async with SequencerClient(w.running.sequencer_address) as found:
                builder._sequencers.append(found)
                (ticket,) = await builder.submit([submission])
            assert ticket.accepted
            assert ticket.duplicate


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it happens in this builder."""


async def test_a_builder_that_dies_keeps_its_promises_and_deposits_once(tmp_path: Path) -> None:
    testnet = bonded_testnet()
    async with world(tmp_path / "testnet", testnet) as w:
        urls = {rollup.name: rollup.rpc_url for rollup in w.running.rollups}
        owner = dev_account(testnet.seed, "user", 0)
        config = replace(builder_config(w, urls), key=owner.key.hex(), bond_wei=2 * TENTH_WEI, promise_wei=TENTH_WEI)
        lost, first = w.counters(0, (1, 0), (1, 0))
        kept, second = w.counters(1, (2, 0), (2, 0))

        def crash(place: str) -> None:
            if place == "builder.after_promise":
                raise Killed

        with pytest.raises(BaseExceptionGroup) as died:
            async with running_builder(config, tmp_path, crash=crash) as builder:
                await builder.submit([lost])
        assert died.group_contains(Killed)
        balance_wei = await w.l1.balance_wei(owner.address)
        async with running_builder(config, tmp_path) as builder:
            status = await builder.bond_status()
            assert (status.bond_wei, status.bound_wei, status.open) == (2 * TENTH_WEI, TENTH_WEI, 1)
            assert await w.l1.balance_wei(owner.address) == balance_wei
            # Nobody was shown it, but somebody may have been: it binds until the bundle's end is known.
            assert await builder.promise(first) is None
            third, _ = w.counters(2, (3, 0), (3, 0))
            tickets = await builder.submit([kept, third])
            assert [ticket.accepted for ticket in tickets] == [True, False]
            assert tickets[1].reason.startswith("no free bond")
            (ticket,) = await builder.submit([lost])
            assert ticket.accepted
            found = [await builder.promise(identity) for identity in (first, second)]
            assert [state for entry in found if entry is not None for state in entry[1:]] == [PromiseState.ORDERED] * 2
            assert (await builder.bond_status()).made == 2


def builder_config(w: World, urls: dict[str, str]) -> BuilderNodeConfig:
    """A builder of its own, without promises."""
    layer = w.testnet.agglayer
    assert layer is not None
    return BuilderNodeConfig(
        name="other",
        params=layer.params,
        testnet=w.testnet.params,
        sequencer_endpoints=(w.running.sequencer_address,),
        rollup_rpc_urls=urls,
        l1_rpc_url=w.running.l1_rpc_url,
        key=w.testnet.keys.builder.key.hex(),
        batch_ms=1,
    )


@asynccontextmanager
async def running_builder(
    config: BuilderNodeConfig, directory: Path, *, crash: CrashPoint = no_crash
) -> AsyncIterator[BuilderNode]:
    clock = SystemClock()
    builder = BuilderNode(config, directory=directory, clock=clock, tracer=MemoryTracer(clock), crash=crash)
    async with asyncio.TaskGroup() as group:
        group.create_task(builder.run())
        await builder.wait_ready()
        yield builder
        builder.stop()


async def test_a_mint_without_its_burn_is_refused_in_either_mode(tmp_path: Path) -> None:
    async with world(tmp_path, bonded_testnet(atomicity="agglayer")) as w:
        lane = w.lane(0)
        burn = bridge_asset_call(dest_network=2, dest_address=lane.address, amount=5, token=bytes(20))
        mint = mint_contingent_call(source_network=1, token=ETH, dest_address=lane.address, amount=5, metadata=b"")
        good, identity = signed_bundle(
            w.testnet,
            [
                Call(rollup=0, sender=lane, nonce=0, to=BRIDGE, data=burn, value=5, gas=400_000),
                Call(rollup=1, sender=lane, nonce=0, to=BRIDGE, data=mint, gas=400_000),
            ],
        )
        thief = w.lane(1)
        forged, _ = signed_bundle(
            w.testnet,
            [
                Call(rollup=0, sender=thief, nonce=0, to=SOMEBODY, value=5),
                Call(rollup=1, sender=thief, nonce=0, to=BRIDGE, data=mint, gas=400_000),
            ],
        )
        tickets = await w.builder.submit([forged, good])
        assert reasons(tickets) == ["leg 1 mints what no leg of the bundle burns on rollup-1", ""]
        assert await w.fates(identity) == ["succeeded", "succeeded"]
