"""How fast the Solana dev node is on this machine: signed transactions over batched JSON-RPC, and slots by hand.

python -m tests.support.devnode_speed            prints one line a figure; nothing is asserted, machines differ
"""

import asyncio
import base64
import tempfile
import time

from solders.compute_budget import set_compute_unit_limit, set_loaded_accounts_data_size_limit
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair

from nodes.model.solana import SolanaTiming
from nodes.solana.devnode.config import ChainConfig, DevnodeConfig
from nodes.solana.endpoint import SolanaProcess
from nodes.solana.funding import fund
from nodes.solana.rpc import HttpSolanaRpc
from tests.support.solana_chain import new_chain
from tests.support.solana_transactions import MEMO, signed

BATCH = 100
TRANSACTIONS = 10_000
CONNECTIONS = 2


async def over_rpc(*, data_bytes: int, preflight: bool) -> float:
    """Signed transactions per second that a dev node process takes and executes."""
    with tempfile.TemporaryDirectory(prefix="lockstep-") as directory:
        process = await SolanaProcess.start_devnode(
            DevnodeConfig(directory=directory, chain=ChainConfig(timing=SolanaTiming(slot_ms=400)))
        )
        try:
            async with HttpSolanaRpc(process.endpoint.rpc_url, batch_bytes_max=1 << 20) as rpc:
                payers = [Keypair.from_seed(bytes([at]) * 32) for at in range(1, 9)]

                async def tick() -> None:
                    await rpc.call("devnode_tick", [{"slots": 1}])

                await fund(rpc, payers, can_airdrop=True, tick=tick)
                await rpc.call("devnode_run")
                latest = await rpc.call("getLatestBlockhash", [{"commitment": "confirmed"}])
                blockhash = Hash.from_string(latest["value"]["blockhash"])
                raws = [_memo(payers[at % len(payers)], blockhash, data_bytes, at) for at in range(TRANSACTIONS)]
                options = {"encoding": "base64", "skipPreflight": not preflight, "preflightCommitment": "processed"}
                requests = [("sendTransaction", [base64.b64encode(raw).decode(), options]) for raw in raws]
                batches = iter([requests[at : at + BATCH] for at in range(0, len(requests), BATCH)])

                async def send() -> None:
                    for batch in batches:
                        for answer in await rpc.batch(batch):
                            assert isinstance(answer, str), answer

                level = [{"commitment": "processed"}]
                before = await rpc.call("getTransactionCount", level)
                began = time.perf_counter()
                async with asyncio.TaskGroup() as group:
                    for _ in range(CONNECTIONS):
                        group.create_task(send())
                while await rpc.call("getTransactionCount", level) < before + TRANSACTIONS:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)  # the node tells nobody when its queue is empty
                return TRANSACTIONS / (time.perf_counter() - began)
        finally:
            await process.stop()


def _memo(payer: Keypair, blockhash: Hash, data_bytes: int, number: int) -> bytes:
    """With the limits that a posting sets, so that a slot has room for thousands."""
    text = str(number).encode().ljust(data_bytes, b".")
    limits = [set_compute_unit_limit(10_000), set_loaded_accounts_data_size_limit(32 * 1024)]
    return signed(payer, [*limits, Instruction(MEMO, text, [])], blockhash)


def slots_by_hand(*, with_transaction: bool) -> float:
    """Slots per second without a clock."""
    chain = new_chain(seed=1)
    payer = Keypair.from_seed(bytes([7]) * 32)
    slots = 5_000
    began = time.perf_counter()
    for _ in range(slots):
        if with_transaction:
            chain.airdrop(payer.pubkey(), 1_000_000)
        chain.tick()
    return slots / (time.perf_counter() - began)


def main() -> None:
    """Print every figure."""
    print(f"empty slots by hand          {slots_by_hand(with_transaction=False):>10,.0f} /s")
    print(f"slots with a transfer each   {slots_by_hand(with_transaction=True):>10,.0f} /s")
    for data_bytes in (100, 900):
        for preflight in (False, True):
            rate = asyncio.run(over_rpc(data_bytes=data_bytes, preflight=preflight))
            name = f"memos of {data_bytes} bytes{', preflight' if preflight else ''}"
            print(f"{name:<28} {rate:>10,.0f} /s")


if __name__ == "__main__":
    main()
