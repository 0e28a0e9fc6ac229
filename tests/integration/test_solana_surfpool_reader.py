"""Submitter and reader on Surfpool: another program's RPC and another program's runtime."""

import asyncio
from pathlib import Path

import pytest
from solders.keypair import Keypair

from nodes.model.errors import MissingTool
from nodes.rules.hashes import sha256
from nodes.solana.deploy import deploy_inbox
from nodes.solana.endpoint import SolanaProcess
from nodes.solana.reader import Reader
from nodes.solana.reader_store import ReaderStore, sqlite_url
from nodes.solana.rpc import HttpSolanaRpc
from nodes.solana.submit_journal import SubmitJournal
from nodes.solana.submitter import Submitter, SubmitterRules
from nodes.solana.surfpool_links import SurfpoolRpc
from nodes.telemetry.clock import SystemClock
from nodes.wire.bundles import bundle_to_bytes
from tests.support.patience import PATIENCE_S
from tests.support.solana_reading import CHAIN_ID, READER_KEY, ROLLUPS, Heard, bundle_of, hash_of, listener_of, rules_of

SLOT_MS = 100
BUNDLES = 60


async def test_bundles_go_through_surfpool(tmp_path: Path) -> None:
    try:
        process = await SolanaProcess.start_surfpool(tmp_path / "surfpool", slot_ms=SLOT_MS)
    except MissingTool as missing:
        pytest.skip(str(missing))
    try:
        async with HttpSolanaRpc(process.endpoint.rpc_url, process.endpoint.ws_url) as rpc:
            await _post_and_read(rpc, tmp_path)
    finally:
        await process.stop()


async def _post_and_read(rpc: HttpSolanaRpc, directory: Path) -> None:
    payer = Keypair.from_seed(sha256(b"payer"))
    await rpc.call("requestAirdrop", [str(payer.pubkey()), 1_000_000_000_000])
    program = Keypair.from_seed(sha256(b"program"))
    inbox = await deploy_inbox(rpc, payer, ROLLUPS, program_keypair=program, progress=lambda _: None)
    journal = SubmitJournal(directory / "journal", chain_id=CHAIN_ID)
    store = ReaderStore(sqlite_url(directory / "reader"), CHAIN_ID)
    heard = Heard()
    clock = SystemClock()
    submitter = heard.submitter = Submitter(rpc, inbox, [payer], journal, SubmitterRules(slot_ms=SLOT_MS), clock=clock)
    rules = rules_of(inbox)
    linked = SurfpoolRpc(rpc)
    reader = Reader(linked, inbox, store, rules, listener=listener_of(heard), key=READER_KEY, clock=clock)
    bundles = [bundle_of(number) for number in range(BUNDLES)]
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        group.create_task(submitter.run())
        group.create_task(reader.run())
        submitter.accept([(hash_of(bundle), bundle, bundle_to_bytes(bundle)) for bundle in bundles])
        while len(heard.order) < BUNDLES or heard.final_height < heard.heights[0].new.ref.height + 3:
            await heard.wait_told()
        submitter.stop()
        reader.stop()
    assert sorted(heard.order) == sorted(hash_of(bundle) for bundle in bundles)
    assert heard.stalls[-1:] in ([], [""]), "a node that answers late is waited for"
    assert heard.roll_backs == []
    store.close()
    journal.close()
