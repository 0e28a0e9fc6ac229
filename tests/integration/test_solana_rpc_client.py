"""solana-py against the dev node: every method that it has, its typed errors, and all of its subscriptions."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from solana.exceptions import SolanaRpcException
from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Confirmed, Finalized, Processed
from solana.rpc.core import RPCException
from solana.rpc.jsonrpc import SolanaJsonRpcError
from solana.rpc.models import TokenAccountOpts, TxOpts
from solana.rpc.websocket_api import SolanaWsClient
from solders.hash import Hash
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.rpc.config import RpcTransactionLogsFilterMentions
from solders.signature import Signature
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction
from solders.transaction_status import TransactionConfirmationStatus, TransactionDetails

from tests.support.patience import PATIENCE_S
from tests.support.solana_clients.served import Served, served_chain
from tests.support.solana_clients.world import SOL, World, build_world, key, memo, send

TOKEN = Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")
SEND = TxOpts(preflight_commitment=Confirmed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    served: Served
    client: AsyncClient
    world: World

    def signature(self, step: str) -> Signature:
        return Signature.from_string(self.world.signatures[step])

    async def transfer(self, lamports: int = 1, *, blockhash: Hash | None = None) -> VersionedTransaction:
        latest = blockhash or (await self.client.get_latest_blockhash(Confirmed)).value.blockhash
        alice = self.world.alice
        pay = transfer(TransferParams(from_pubkey=alice.pubkey(), to_pubkey=self.world.bob, lamports=lamports))
        return VersionedTransaction(MessageV0.try_compile(alice.pubkey(), [pay], [], latest), [alice])


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    async with served_chain() as served, AsyncClient(served.server.rpc_url, commitment=Confirmed) as client:
        world = await build_world(served.http, served.settle)
        yield Scene(served=served, client=client, world=world)


Asked = dict[str, Callable[[], Awaitable[Any]]]


def every_read(here: Scene, slot: int, message: MessageV0) -> Asked:
    """Every reading method of the client, by a name of its own."""
    client, world = here.client, here.world
    bob, tokens, mint, alice = world.bob, world.alice_tokens, world.mint, world.alice.pubkey()
    signature = here.signature("transfer")
    return {
        "account": lambda: client.get_account_info(bob),
        "account parsed": lambda: client.get_account_info_json_parsed(tokens),
        "balance": lambda: client.get_balance(bob),
        "block": lambda: client.get_block(slot, max_supported_transaction_version=0),
        "block parsed": lambda: client.get_block(slot, "jsonParsed", max_supported_transaction_version=0),
        "block base64": lambda: client.get_block(slot, "base64", max_supported_transaction_version=0),
        "block accounts": lambda: client.get_block(
            slot, transaction_details=TransactionDetails.Accounts, max_supported_transaction_version=0
        ),
        "block signatures": lambda: client.get_block(slot, transaction_details=TransactionDetails.Signatures),
        "block commitment": lambda: client.get_block_commitment(here.served.chain.tip.slot),
        "block height": client.get_block_height,
        "block time": lambda: client.get_block_time(slot),
        "blocks": lambda: client.get_blocks(slot, slot + 3),
        "cluster nodes": client.get_cluster_nodes,
        "epoch": client.get_epoch_info,
        "epoch schedule": client.get_epoch_schedule,
        "fee": lambda: client.get_fee_for_message(message),
        "first block": client.get_first_available_block,
        "genesis": client.get_genesis_hash,
        "identity": client.get_identity,
        "inflation governor": client.get_inflation_governor,
        "inflation rate": client.get_inflation_rate,
        "inflation reward": lambda: client.get_inflation_reward([bob]),
        "largest": client.get_largest_accounts,
        "blockhash": client.get_latest_blockhash,
        "leaders": client.get_leader_schedule,
        "rent": lambda: client.get_minimum_balance_for_rent_exemption(100),
        "minimum slot": client.get_minimum_ledger_slot,
        "accounts": lambda: client.get_multiple_accounts([bob, tokens, key("nobody").pubkey()]),
        "accounts parsed": lambda: client.get_multiple_accounts_json_parsed([mint, tokens]),
        "program": lambda: client.get_program_accounts(TOKEN, encoding="base64", filters=[165]),
        "program parsed": lambda: client.get_program_accounts_json_parsed(TOKEN),
        "samples": lambda: client.get_recent_performance_samples(3),
        "priority": lambda: client.get_recent_prioritization_fees([bob]),
        "statuses": lambda: client.get_signature_statuses([signature]),
        "signatures": lambda: client.get_signatures_for_address(alice, limit=3),
        "slot": client.get_slot,
        "leader": client.get_slot_leader,
        "next leaders": lambda: client.get_slot_leaders(slot, 8),
        "supply": client.get_supply,
        "token balance": lambda: client.get_token_account_balance(tokens),
        "delegated": lambda: client.get_token_accounts_by_delegate(bob, TokenAccountOpts(mint=mint)),
        "owned": lambda: client.get_token_accounts_by_owner(alice, TokenAccountOpts(program_id=TOKEN)),
        "owned parsed": lambda: client.get_token_accounts_by_owner_json_parsed(alice, TokenAccountOpts(mint=mint)),
        "token largest": lambda: client.get_token_largest_accounts(mint),
        "token supply": lambda: client.get_token_supply(mint),
        "transaction": lambda: client.get_transaction(signature, max_supported_transaction_version=0),
        "transaction parsed": lambda: client.get_transaction(
            signature, "jsonParsed", max_supported_transaction_version=0
        ),
        "count": client.get_transaction_count,
        "version": client.get_version,
        "votes": client.get_vote_accounts,
    }


async def test_every_method_of_solana_py_reads_the_answer() -> None:
    async with scene() as here:
        world = here.world
        (status,) = (await here.client.get_signature_statuses([here.signature("transfer")])).value
        assert status is not None
        slot = status.slot
        message = (await here.transfer()).message
        assert isinstance(message, MessageV0)
        asked = every_read(here, slot, message)
        answers = {name: (await ask()).value for name, ask in asked.items()}
    assert [name for name, value in answers.items() if value is None] == []
    assert answers["balance"] == 2 * SOL
    assert answers["fee"] == 5_000
    assert answers["token balance"].ui_amount_string == "3.75"
    assert answers["token supply"].amount == "5000000"
    assert [str(item.address) for item in answers["token largest"]] == [str(world.alice_tokens), str(world.bob_tokens)]
    assert [str(item.pubkey) for item in answers["owned"]] == [str(world.alice_tokens)]
    assert answers["accounts"][2] is None
    assert answers["account parsed"].data.parsed["info"]["tokenAmount"]["uiAmount"] == 3.75
    assert answers["transaction parsed"].transaction.meta.fee == 5_030
    assert answers["blocks"] == [slot, slot + 1, slot + 2, slot + 3]
    assert len(answers["leaders"]) == 4
    assert {item.prioritization_fee for item in answers["priority"]} == {0, 1_000}


async def test_a_sent_transaction_is_confirmed_and_then_finalized() -> None:
    async with scene() as here:
        sent = (await here.client.send_transaction(await here.transfer(), SEND)).value
        status = (await here.client.get_signature_statuses([sent])).value[0]
        assert status is not None
        assert status.confirmation_status == TransactionConfirmationStatus.Processed
        here.served.chain.tick(3)
        confirmed = (await here.client.confirm_transaction(sent, Confirmed, 0.01)).value[0]
        assert confirmed is not None
        assert confirmed.confirmations == 2
        here.served.chain.tick(5)
        finalized = (await here.client.confirm_transaction(sent, Finalized, 0.01)).value[0]
        assert finalized is not None
        assert finalized.confirmations is None


async def test_refusals_arrive_as_typed_errors() -> None:
    async with scene() as here:
        landed = await here.client.get_transaction(
            here.signature("transfer"), "base64", max_supported_transaction_version=0
        )
        assert landed.value is not None
        original = landed.value.transaction.transaction
        assert isinstance(original, VersionedTransaction)
        cases: dict[str, tuple[VersionedTransaction, str]] = {
            "twice": (original, "already been processed"),
            "poor": (await here.transfer(10**17), "custom program error: 0x1"),
            "stale": (await here.transfer(blockhash=Hash(b"\1" * 32)), "Blockhash not found"),
        }
        for name, (transaction, words) in cases.items():
            with pytest.raises(RPCException) as raised:
                await here.client.send_transaction(transaction, SEND)
            assert words in str(raised.value), name
        forged = VersionedTransaction.populate((await here.transfer()).message, [Signature(b"\1" * 64)])
        with pytest.raises(RPCException, match="TransactionSignatureVerificationFailure"):
            await here.client.send_transaction(forged, SEND)
        with pytest.raises(RPCException, match="too large"):
            await here.client.send_raw_transaction(bytes(1_233), SEND)
        with pytest.raises((RPCException, SolanaRpcException), match="not available"):
            await here.client.get_block(10**9)
        simulated = (await here.client.simulate_transaction(await here.transfer(10**17))).value
        assert simulated.err is not None
        assert any("insufficient lamports" in line for line in simulated.logs or ())


async def test_every_subscription_of_solana_py() -> None:
    async with scene() as here, SolanaWsClient(here.served.server.ws_url) as socket:
        world, chain = here.world, here.served.chain
        pending = await here.transfer(7)
        subscriptions = {
            "slot": await socket.slot_subscribe(),
            "root": await socket.root_subscribe(),
            "updates": await socket.slots_updates_subscribe(),
            "signature": await socket.signature_subscribe(signature=pending.signatures[0], commitment=Confirmed),
            "logs": await socket.logs_subscribe(),
            "account": await socket.account_subscribe(pubkey=world.bob, commitment=Processed, encoding="base64"),
            "program": await socket.program_subscribe(
                program_id=Pubkey(bytes(32)), commitment=Confirmed, encoding="base64"
            ),
            "block": await socket.block_subscribe(max_supported_transaction_version=0),
        }
        with pytest.raises(SolanaJsonRpcError, match="nobody votes"):
            await socket.vote_subscribe()
        await here.client.send_transaction(pending, SEND)
        chain.tick(8)
        heard: dict[int, list[Any]] = {}
        wanted = {subscription.subscription_id: name for name, subscription in subscriptions.items()}
        async with asyncio.timeout(PATIENCE_S):
            while len(heard) < len(wanted):
                notification = await socket.recv()
                heard.setdefault(notification.subscription, []).append(notification.result)
        results = {wanted[number]: found for number, found in heard.items()}
        assert results["account"][0].value.lamports == 2 * SOL + 7
        assert results["signature"][0].value.err is None
        assert results["slot"][0].parent == results["slot"][0].slot - 1
        await socket.unsubscribe(subscriptions["slot"])


async def test_logs_of_one_address() -> None:
    async with scene() as here, SolanaWsClient(here.served.server.ws_url) as socket:
        memo_program = Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")
        await socket.logs_subscribe(filter_=RpcTransactionLogsFilterMentions(memo_program), commitment=Confirmed)
        await send(
            here.served.http,
            [transfer(TransferParams(from_pubkey=here.world.alice.pubkey(), to_pubkey=here.world.bob, lamports=1))],
            [here.world.alice],
        )
        told = await send(here.served.http, [memo("hear me")], [here.world.alice])
        here.served.chain.tick(4)
        async with asyncio.timeout(PATIENCE_S):
            notification: Any = await socket.recv()
        assert str(notification.result.value.signature) == told
        assert any("hear me" in line for line in notification.result.value.logs)
