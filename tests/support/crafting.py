"""Builds signed legs, bundles, sequenced blocks and testnets for tests; knows how to build false ones too."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from coincurve import PrivateKey

from nodes.model.bundle import BUNDLE_VERSION, Bundle, Leg, Trailer
from nodes.model.execution import Derived, RollupParams, TestnetParams
from nodes.model.ids import Address, Height, LegHash, RollupId, rollup_id_of
from nodes.model.sequenced_block import BlockRef, Commitment, FilteredBlock, RollupContent, SequencedBlock
from nodes.rules import sequenced_block as blocks
from nodes.rules.bundle import bundle_hash
from nodes.rules.derivation import Derivation
from nodes.rules.payload import UnsignedTransaction, address_of, decode, sign

CHAIN_ID = b"\x07" * 32
CHAINS = (7001, 7002, 7003, 7004)
ROLLUPS = tuple(rollup_id_of(chain) for chain in CHAINS)
KEYS = tuple(PrivateKey(bytes([n + 1]) * 32) for n in range(8))
ADDRESSES = tuple(address_of(key) for key in KEYS)
RECIPIENT = b"\x11" * 20


def make_testnet(
    rollups: Sequence[RollupId] = ROLLUPS,
    *,
    replay_window: int = 10,
    max_payloads: int = 64,
    leg_gas_cap: int = 1_000_000,
) -> TestnetParams:
    """A testnet with equal parameters for each rollup."""
    return TestnetParams(
        sequencer_chain_id=CHAIN_ID,
        rollups=tuple(
            RollupParams(
                rollup_id=rollup_id,
                name=f"rollup-{at + 1}",
                leg_gas_cap=leg_gas_cap,
                max_payloads=max_payloads,
                genesis_time_s=1_700_000_000,
                coinbase=Address(bytes(20)),
            )
            for at, rollup_id in enumerate(rollups)
        ),
        replay_window=replay_window,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LegPlan:
    """One leg before signing: which chain, which key, which nonce."""

    chain: int
    key: int = 0
    nonce: int = 0
    gas_limit: int = 30_000
    value: int = 1
    calldata: bytes = b""
    tx_type: int = 2

    def unsigned(self) -> UnsignedTransaction:
        """The transaction without trailer."""
        return UnsignedTransaction(
            tx_type=self.tx_type,
            chain_id=self.chain,
            nonce=self.nonce,
            gas_limit=self.gas_limit,
            to=RECIPIENT,
            value=self.value,
            calldata=self.calldata,
        )

    def leg_hash(self) -> LegHash:
        """What the bundle hash commits to."""
        return self.unsigned().leg_hash(ADDRESSES[self.key])


def plain(plan: LegPlan) -> Bundle:
    """A submission of one transaction without trailer."""
    payload = sign(plan.unsigned(), KEYS[plan.key])
    return lone(plan.chain, payload)


def lone(chain: int, payload: bytes) -> Bundle:
    """A submission of any bytes as a plain transaction."""
    return Bundle(
        version=0, expiry=0, legs=(Leg(rollup_id=rollup_id_of(chain), payload=payload, leg_hash=LegHash(b"")),)
    )


def signed_legs(plans: Sequence[LegPlan], *, version: int = BUNDLE_VERSION, expiry: int = 0) -> list[bytes]:
    """The payloads of a well-formed bundle."""
    wanted = bundle_hash(version=version, expiry=expiry, leg_hashes=[plan.leg_hash() for plan in plans])
    return [
        sign(plan.unsigned(), KEYS[plan.key], Trailer(wanted, index, len(plans))) for index, plan in enumerate(plans)
    ]


def bundle(
    plans: Sequence[LegPlan],
    *,
    version: int = BUNDLE_VERSION,
    expiry: int = 0,
    replace: Mapping[int, bytes] | None = None,
    leg_hashes: Sequence[bytes] | None = None,
) -> Bundle:
    """A bundle; `replace` puts other bytes in place of a leg's payload, `leg_hashes` brings a false preimage."""
    payloads = signed_legs(plans, version=version, expiry=expiry)
    for index, payload in (replace or {}).items():
        payloads[index] = payload
    hashes = leg_hashes or [plan.leg_hash() for plan in plans]
    return Bundle(
        version=version,
        expiry=expiry,
        legs=tuple(
            Leg(rollup_id=rollup_id_of(plan.chain), payload=payload, leg_hash=LegHash(leg_hash))
            for plan, payload, leg_hash in zip(plans, payloads, hashes, strict=True)
        ),
    )


def seal(
    contents: Mapping[RollupId, RollupContent], *, parent: BlockRef, time_ns: int
) -> tuple[SequencedBlock, blocks.BlockTrees]:
    """A sequenced block with any contents."""
    trees = blocks.BlockTrees(dict(sorted(contents.items())))
    header, header_hash = blocks.seal(trees, chain_id=CHAIN_ID, time_ns=time_ns, parent=parent)
    return SequencedBlock(header=header, header_hash=header_hash, contents=trees.contents, finality_proof=b""), trees


@dataclass(slots=True)
class Chain:
    """A sequencer's chain and one reader per rollup, without any process."""

    params: TestnetParams = field(default_factory=make_testnet)
    head: BlockRef = field(default_factory=lambda: blocks.genesis_ref(CHAIN_ID))
    time_ns: int = 1_700_000_000_000_000_000
    readers: dict[RollupId, Derivation] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for params in self.params.rollups:
            self.readers[params.rollup_id] = Derivation(testnet=self.params, rollup_id=params.rollup_id, decode=decode)

    def step(
        self,
        submissions: Sequence[Bundle] = (),
        *,
        contents: Mapping[RollupId, RollupContent] | None = None,
        tamper: Callable[[FilteredBlock], FilteredBlock] = lambda block: block,
    ) -> dict[RollupId, Derived]:
        """Sequence one block and derive it on every rollup."""
        block, trees = seal(contents or blocks.place(submissions), parent=self.head, time_ns=self.time_ns)
        derived = {}
        for rollup_id, reader in self.readers.items():
            received = tamper(blocks.filter_block(block, trees, rollup_id, Commitment.FIRM))
            verified = blocks.verify(received, chain_id=CHAIN_ID, parent=self.head, parent_time_ns=self.time_ns)
            derived[rollup_id] = reader.derive(verified)
        self.head = BlockRef(height=Height(self.head.height + 1), hash=block.header_hash)
        self.time_ns += 100_000_000
        return derived
