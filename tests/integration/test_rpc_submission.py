"""Handing in transactions and bundles through JSON-RPC to a real sequencer, and what users see of them afterwards."""

import asyncio
from pathlib import Path
from typing import Any

from nodes.model.ids import hex_of
from nodes.rules.hashes import keccak256
from nodes.rules.payload import UnsignedTransaction, sign
from nodes.wire.bundles import bundle_to_bytes
from tests.support.crafting import ADDRESSES, KEYS, RECIPIENT, LegPlan, bundle, lone, plain, signed_legs
from tests.support.engine_chain import POISON
from tests.support.rollup_testnet import HERE, REVERTS, THERE, hash_of
from tests.support.rpc_nodes import Served, rpc_testnet

ME = hex_of(ADDRESSES[0])


def raw(nonce: int, **changes: Any) -> str:
    plan = LegPlan(chain=HERE, nonce=nonce, **{"gas_limit": 60_000, **changes})
    return hex_of(sign(plan.unsigned(), KEYS[0]))


async def test_a_transaction_of_each_type_is_executed(tmp_path: Path) -> None:
    async with rpc_testnet(tmp_path) as nodes:
        here = nodes[HERE]
        for nonce, tx_type in enumerate((0, 1, 2)):
            tx_hash = await here.rpc.call("eth_sendRawTransaction", raw(nonce, tx_type=tx_type))
            assert (await here.settled(tx_hash))["status"] == "succeeded"
            assert (await here.rpc.call("eth_getTransactionByHash", tx_hash))["type"] == hex(tx_type)
            assert (await here.rpc.call("eth_getTransactionReceipt", tx_hash))["type"] == hex(tx_type)


async def test_a_transaction_that_passes_much_data_between_calls_halts_nothing(tmp_path: Path) -> None:
    """By anybody, for 400,000 gas. The engine is not lost by it, and neither users' reads nor later blocks are."""
    async with rpc_testnet(tmp_path) as nodes:
        here = nodes[HERE]
        engine = here.node.engine_pid
        made = UnsignedTransaction(chain_id=HERE, nonce=0, gas_limit=400_000, to=b"", value=0, calldata=POISON)
        poison = await here.rpc.call("eth_sendRawTransaction", hex_of(sign(made, KEYS[0])))
        assert (await here.settled(poison))["status"] == "reverted"
        refused = await here.rpc.refusal("debug_traceTransaction", poison, {"tracer": "callTracer"})
        assert (refused.code, "the answer has more than" in refused.message) == (-32005, True)
        after = await here.rpc.call("eth_sendRawTransaction", raw(1))
        assert (await here.settled(after))["status"] == "succeeded"
        assert (await here.rpc.call("eth_getTransactionReceipt", poison))["status"] == "0x0"
        assert here.node.engine_pid == engine


async def test_many_transactions_of_one_sender_may_be_under_way(tmp_path: Path) -> None:
    """As tools send them: each with the pending nonce, none waiting for the one before to execute."""
    async with rpc_testnet(tmp_path) as nodes:
        here = nodes[HERE]
        hashes = []
        for _ in range(20):
            nonce = int(await here.rpc.call("eth_getTransactionCount", ME, "pending"), 16)
            hashes.append(await here.rpc.call("eth_sendRawTransaction", raw(nonce)))
        assert len(set(hashes)) == 20
        assert [(await here.settled(tx_hash))["status"] for tx_hash in hashes] == ["succeeded"] * 20
        assert await here.rpc.call("eth_getTransactionCount", ME, "latest") == "0x14"
        # One batch of consecutive nonces is taken in its order.
        batch = [{"id": n, "method": "eth_sendRawTransaction", "params": [raw(n)]} for n in range(20, 30)]
        sent = [answer["result"] for answer in await here.rpc.post(batch)]
        assert [(await here.settled(tx_hash))["status"] for tx_hash in sent] == ["succeeded"] * 10


async def test_copies_sent_at_once_are_taken_once(tmp_path: Path) -> None:
    async with rpc_testnet(tmp_path) as nodes:
        rpc = nodes[HERE].rpc
        body = {"id": 1, "method": "eth_sendRawTransaction", "params": [raw(0)]}
        answers = await asyncio.gather(*(rpc.post(body) for _ in range(8)))
        refused = [answer["error"]["message"] for answer in answers if "error" in answer]
        assert len(refused) == 7
        assert all(text == "already known" or text.startswith("nonce too low") for text in refused)


async def test_refusals_have_geths_words(tmp_path: Path) -> None:
    async with rpc_testnet(tmp_path) as nodes:
        rpc, cap = nodes[HERE].rpc, nodes[HERE].node.params.leg_gas_cap
        foreign = sign(LegPlan(chain=THERE).unsigned(), KEYS[0])
        poor = sign(UnsignedTransaction(chain_id=HERE, nonce=0, gas_limit=21_000, to=RECIPIENT, value=10**25), KEYS[0])
        for payload, text in {
            hex_of(foreign): f"invalid sender: invalid chain id for signer: have {THERE} want {HERE}",
            raw(0, gas_limit=cap + 1): f"transaction gas limit too high (cap: {cap}, tx: {cap + 1})",
            raw(0, gas_limit=20_000): "intrinsic gas too low: gas 20000, minimum needed 21000",
            raw(4): f"nonce too high: address {ME}, tx: 4 state: 0 pending: 0",
            hex_of(poor): f"insufficient funds for gas * price + value: address {ME} have {10**24} want {10**25}",
            hex_of(signed_legs([LegPlan(chain=HERE), LegPlan(chain=THERE)])[1]): "invalid sender",
            hex_of(signed_legs([LegPlan(chain=HERE), LegPlan(chain=THERE)])[0]): "leg 1 of 2: send the bundle",
            "0x02c0": "rlp: ",
        }.items():
            refused = await rpc.refusal("eth_sendRawTransaction", payload)
            assert refused.code == -32000
            assert refused.message.startswith(text), refused.message
        assert (await rpc.refusal("eth_sendRawTransaction", "0x0")).code == -32602
        assert (await nodes[HERE].bench.node.status()).pending_transactions == 0


async def test_a_bundle_executes_on_both_rollups(tmp_path: Path) -> None:
    async with rpc_testnet(tmp_path, chains=(HERE, THERE)) as nodes:
        here, there = nodes[HERE], nodes[THERE]
        plans = [LegPlan(chain=HERE, gas_limit=60_000), LegPlan(chain=THERE, gas_limit=60_000, value=REVERTS)]
        legs = signed_legs(plans)
        answer = await here.rpc.call("lockstep_sendBundle", [hex_of(leg) for leg in legs])
        assert answer["bundleHash"] == hex_of(hash_of(bundle(plans)))
        assert answer["transactionHashes"] == [hex_of(keccak256(leg)) for leg in legs]
        assert (await here.settled(answer["transactionHashes"][0]))["status"] == "succeeded"
        status = await there.settled(answer["transactionHashes"][1])
        assert (status["status"], status["bundleHash"]) == ("reverted", answer["bundleHash"])
        found = [await node.rpc.call("lockstep_getBundle", answer["bundleHash"]) for node in (here, there)]
        assert [[(leg["legIndex"], leg["fate"]) for leg in each["fates"]] for each in found] == [
            [("0x0", "succeeded")],
            [("0x1", "reverted")],
        ]
        assert found[0]["fates"][0]["height"] == found[1]["fates"][0]["height"]
        assert [leg["chainId"] for leg in found[0]["legs"]] == [hex(HERE), hex(THERE)]
        assert found[1]["legs"] is None  # it was handed in elsewhere


async def test_what_was_dropped_or_skipped_is_told_with_its_reason(tmp_path: Path) -> None:
    async with rpc_testnet(tmp_path) as nodes:
        here = nodes[HERE]
        # Past the checks of the JSON-RPC, straight to the sequencer.
        stray, gap = signed_legs([LegPlan(chain=HERE), LegPlan(chain=THERE)])[0], plain(LegPlan(chain=HERE, nonce=7))
        await _submit(here, stray)
        await _submit(here, gap.legs[0].payload)
        dropped = await here.settled(hex_of(keccak256(stray)))
        assert (dropped["status"], dropped["reason"], dropped["blockNumber"]) == ("dropped", "stray_leg", None)
        skipped = await here.settled(hex_of(keccak256(gap.legs[0].payload)))
        assert (skipped["status"], skipped["reason"]) == ("skipped", "nonce_too_high")
        for payload in (stray, gap.legs[0].payload):
            tx_hash = hex_of(keccak256(payload))
            assert await here.rpc.call("eth_getTransactionByHash", tx_hash) is None
            assert await here.rpc.call("eth_getTransactionReceipt", tx_hash) is None
        unknown = await here.rpc.call("lockstep_getTransactionStatus", "0x" + "77" * 32)
        assert unknown["status"] == "unknown"


async def test_bytes_that_were_skipped_before_are_not_taken_for_new(tmp_path: Path) -> None:
    async with rpc_testnet(tmp_path) as nodes:
        here = nodes[HERE]
        early = plain(LegPlan(chain=HERE, nonce=1)).legs[0].payload
        await _submit(here, early)
        assert (await here.settled(hex_of(keccak256(early))))["status"] == "skipped"
        await here.settled(await here.rpc.call("eth_sendRawTransaction", raw(0)))
        refused = await here.rpc.refusal("eth_sendRawTransaction", hex_of(early))
        assert refused.message.startswith("already known: it was skipped at sequenced height")
        await here.settled(await here.rpc.call("eth_sendRawTransaction", raw(1, gas_limit=61_000)))


async def test_status_names_node_and_sequencer(tmp_path: Path) -> None:
    async with rpc_testnet(tmp_path) as nodes:
        here = nodes[HERE]
        await here.settled(await here.rpc.call("eth_sendRawTransaction", raw(0)))
        status = await here.rpc.call("lockstep_status")
        assert (status["chainId"], status["transactions"], status["stalled"]) == (hex(HERE), "0x1", "")
        assert status["latest"] == status["finalized"]
        assert (status["sequencer"]["backend"], status["sequencer"]["blockIntervalMs"]) == ("lazy", "0x14")


async def _submit(here: Served, payload: bytes) -> None:
    (ticket,) = await here.testnet.client.submit([bundle_to_bytes(lone(HERE, payload))])
    assert ticket.accepted
