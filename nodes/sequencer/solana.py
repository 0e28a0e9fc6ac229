"""The Solana backend: Solana orders, in the way of the Nexus design (docs/nexus.md).

Soft = confirmed, firm = finalized, final = firm. Here stand what it is called, promises and is trusted for; the node is
`nodes.sequencer.solana_node`, imported only by a process that runs one: its libraries are none of a reader's business.
"""

from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nodes.model.errors import InvalidInput, InvalidScenario, RpcError, Unavailable
from nodes.model.execution import TestnetParams
from nodes.model.ids import hex_of
from nodes.model.solana import DEVNODE, SURFPOOL
from nodes.model.wide_area import NOWHERE
from nodes.ports import Link, direct
from nodes.rules.finality import VerifyFinality
from nodes.rules.payload import address_of
from nodes.rules.posting import Layout, memo_bytes
from nodes.rules.solana_proof import is_proven_by
from nodes.sequencer.backend import KILL_ENGINE, Backend, Expected, SequencerNode, TrustRow
from nodes.sequencer.outside_values import is_reference
from nodes.sequencer.signing_key import key_of, signer_of
from nodes.sequencer.solana_options import MEMO, NAME, PROGRAM, Config
from nodes.telemetry.clock import Clock
from nodes.telemetry.crash import CrashPoint, no_crash
from nodes.telemetry.tracer import Tracer

TROUBLES = (
    "solana_fork",
    "skip_slots",
    "drop_transactions",
    "lag_rpc",
    "rpc_down",
    "expire_blockhashes",
)
"""Scenario faults that only a dev node can have."""
REACH_S = 10.0
"""For somebody's RPC to answer one question before anything is started."""
FEWEST_ROLLUPS = 2
"""Of a bundle: with fewer a transaction has the most room."""


def build(
    config: Config,
    *,
    testnet: TestnetParams,
    directory: Path,
    clock: Clock,
    tracer: Tracer,
    crash: CrashPoint = no_crash,
    link: Link = direct,
) -> SequencerNode:
    """See `nodes.sequencer.backend.Build`."""
    from nodes.sequencer.solana_node import SolanaSequencer

    return SolanaSequencer(
        config, testnet=testnet, directory=directory, clock=clock, tracer=tracer, crash=crash, link=link
    )


def expected(config: Config) -> Mapping[str, Expected]:
    """A bundle comes at any moment, waits for the flush, the end of its slot or bucket, and the slots on top."""
    timing, slot = config.timing, float(config.block_interval_ms)
    wait = float(config.bucket_ms or slot)
    # A bucket is known to be over when the first block of a later one is there.
    known = slot if config.bucket_ms else 0.0
    flush = float(config.flush_ms)
    name = "bucket_ms / 2 + slot" if config.bucket_ms else "slot / 2"
    soft, firm = timing.confirm_slots * slot, timing.finalize_slots * slot
    layout = Layout(
        has_lookup_table=config.lookup_table, has_price=config.priority_micro_lamports > 0, is_memo=config.inbox == MEMO
    )
    room = layout.room_bytes[FEWEST_ROLLUPS]
    whole_bytes_max = memo_bytes(room, rollups=FEWEST_ROLLUPS) if layout.is_memo else room
    by_construction = {
        DEVNODE: "; slot time and depths of a dev node hold by construction",
        SURFPOOL: "; Surfpool's own depths",
    }.get(config.solana, "; depths as the chain is assumed to have")

    def stage(formula: str, depth_ms: float, *, follows: bool = config.solana == DEVNODE) -> Expected:
        return Expected(
            formula=f"flush_ms / 2 + {name} + {formula}{by_construction} (slot = block_interval_ms)",
            p50_ms=flush / 2 + wait / 2 + known + depth_ms,
            p99_ms=flush + wait * 0.99 + known + depth_ms,
            by_construction=follows,
            whole_bytes_max=whole_bytes_max,
        )

    return {
        "sequenced": stage(f"{timing.confirm_slots} slots until confirmed", soft),
        "firm": stage(f"{timing.finalize_slots} slots until finalized", firm),
        "executed": stage(
            f"{timing.confirm_slots} slots until confirmed, derivation and execution of the height", soft, follows=False
        ),
    }


def height_interval_ms(config: Config) -> int:
    """A bucket is a height, and without buckets a Solana block."""
    return max(config.bucket_ms, config.block_interval_ms)


def heights_until_firm(config: Config) -> int:
    """What the slots between confirmed and finalized hold."""
    timing = config.timing
    soft_ms = (timing.finalize_slots - timing.confirm_slots) * config.block_interval_ms
    return ceil(soft_ms / height_interval_ms(config))


def describe_config(config: Config) -> str:
    """See `Backend.describe_config`."""
    timing = config.timing
    node = {
        DEVNODE: "Lockstep dev node, no validators",
        SURFPOOL: "Surfpool, no validators",
    }.get(config.solana, f"RPC of {urlsplit(config.solana).hostname or config.solana}, depths as assumed")
    heights = f"a height per {config.bucket_ms:,} ms of slots" if config.bucket_ms else "heights per slot"
    inbox = "inbox program" if config.inbox == PROGRAM else "memo inbox"
    return (
        f"{node}: slots of {config.block_interval_ms:,} ms, confirmed {timing.confirm_slots}, finalized "
        f"{timing.finalize_slots} slots behind; {heights}; {inbox}; {config.payers} payers"
    )


TRUST = (
    TrustRow(
        part="Solana's validators",
        trusted_for="order and availability: two thirds of the stake confirm and finalize what the leader placed",
        when_it_fails="halt: nothing new is ordered, accepted bundles wait in the journal. A fork below confirmed "
        "takes soft heights back, one below finalized would need a third of the stake to be slashed",
    ),
    TrustRow(
        part="the slot's leader",
        trusted_for="nothing lasting: it may leave a transaction out or reorder within its four slots",
        when_it_fails="transactions wait for the next leader, or land in another order",
    ),
    TrustRow(
        part="the submitter",
        trusted_for="liveness of what it acknowledged: it holds the only copy until Solana has it",
        when_it_fails="down: accepted bundles wait in its journal. Dishonest: it censors, and anyone can post to the "
        "inbox without it",
    ),
    TrustRow(
        part="the reader",
        trusted_for="reading the chain rightly; it signs slot, blockhash and rolling hashes of each height",
        when_it_fails="down: no heights until it is back, nothing lost. Lying: whoever reads the same Solana blocks "
        "gets another header hash and can show it",
    ),
    TrustRow(
        part="the inbox program's upgrade key",
        trusted_for="not replacing the program",
        when_it_fails="sequence and rolling hash on chain stop meaning anything; readers compare them and halt",
    ),
    TrustRow(
        part="the RPC that the reader asks",
        trusted_for="answers that are of the real chain: signatures of validators are not checked",
        when_it_fails="down: as the reader. Lying: readers of other RPCs get other header hashes",
    ),
)


def finality_options(config: Config) -> Mapping[str, Any]:
    """The address of the reader's key."""
    return {"signer": hex_of(address_of(key_of(config.signing_key)))}


def verifier(options: Mapping[str, Any]) -> VerifyFinality:
    """Check of the reader's proofs by `options["signer"]`. Raises InvalidScenario where that is no address."""
    signer = signer_of(options)
    return lambda header_hash, proof: is_proven_by(signer, header_hash=header_hash, proof=proof)


def faults(config: Config) -> frozenset[str]:
    """A dev node has troubles and a ledger to go on from; a Surfpool can only be paused; somebody's chain nothing."""
    found = frozenset({"withhold"})
    if config.starts_node:
        found |= {"pause"}
    if config.solana == DEVNODE:
        found |= {KILL_ENGINE, *TROUBLES}
    return found


def preflight(config: Config, *, is_far: bool) -> None:
    """See `nodes.sequencer.backend.Preflight`."""
    outside = config.outside()
    if config.starts_node:
        return
    if is_far and urlsplit(outside.solana).scheme == "https":
        raise InvalidScenario(
            "[backend] solana is an https endpoint, which has a distance of its own and no link that could be "
            f'emulated: set solana = "{NOWHERE}" in [regions]'
        )
    from nodes.solana.keypairs import keypair_from_file, read_keypair

    try:
        if is_reference(config.keypair):
            read_keypair(outside.keypair)
        else:
            keypair_from_file(Path(outside.keypair).expanduser())
    except InvalidInput as error:
        raise InvalidScenario(f"[backend] keypair: {error}") from error


async def reach(config: Config) -> None:
    """See `Backend.reach`: whether somebody's RPC answers at all."""
    if config.starts_node:
        return
    from nodes.solana.rpc import HttpSolanaRpc

    async with HttpSolanaRpc(config.outside().solana, deadline_s=REACH_S) as rpc:
        try:
            await rpc.call("getGenesisHash")
        except (Unavailable, RpcError) as error:
            raise Unavailable(
                f"[backend] solana: {error}. Is a Solana node running there, and is the URL right? solana = "
                f"{DEVNODE!r} starts one that comes with Lockstep"
            ) from error


BACKEND = Backend(
    name=NAME,
    describe="Solana orders bundles in an inbox program (Nexus), and a reader turns confirmed blocks into heights",
    soft="in a block that Solana confirmed",
    firm="in a block that Solana finalized",
    final="the same as firm",
    config_type=Config,
    build=build,
    finality_options=finality_options,
    verifier=verifier,
    expected=expected,
    trust=TRUST,
    faults=faults,
    preflight=preflight,
    reach=reach,
    describe_config=describe_config,
    height_interval_ms=height_interval_ms,
    heights_until_firm=heights_until_firm,
)
