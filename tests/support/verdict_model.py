"""A small world of rollups with balances, nonces, a hot key and a bridge, and two ways to judge a height of bundles.

`execute` and `Node` follow the barrier protocol with the product's own rules (`plan`, reports, `VerdictReader`);
`Reference` is the naive one: bundle after bundle in order, a failing one is struck. They share what a single leg does,
and nothing about rounds.
"""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import NamedTuple

from coincurve import PrivateKey

from nodes.model.agglayer import AgglayerParams, NetworkId, NetworkParams
from nodes.model.bundle import Trailer
from nodes.model.execution import AbortReason, AdmittedBundle, AdmittedLeg, Derived, Transaction
from nodes.model.ids import Address, BundleHash, Height, LegHash, RollupId, TxHash, chain_id_of, rollup_id_of
from nodes.model.verdict import (
    Abort,
    AbortSet,
    FailureKind,
    LegExit,
    LegFailure,
    LegMint,
    MailboxEvent,
    NoticeKind,
    NoticePosted,
    Report,
    RoundClosed,
    SignedReport,
    VerdictSigned,
)
from nodes.rules.evaluation import VerdictReader
from nodes.rules.hashes import keccak256
from nodes.rules.signing import address_of_key, sign_digest
from nodes.rules.verdict import aborts_hash, decode_report, encode_report, next_aborts, plan, report_digest

CHAIN_ID = b"\x07" * 32
RESOLVER_KEY = PrivateKey(b"\x77" * 32)
START_BALANCE = 10


@cache
def reporter_key(network: int) -> PrivateKey:
    """The key with which a network signs reports."""
    return PrivateKey(bytes([0x40 + network]) * 32)


def make_params(networks: int, *, serial_rounds: int = 8, abort_rule: str = "serial") -> AgglayerParams:
    """An aggregation layer of some rollups."""
    return AgglayerParams(
        networks=tuple(
            NetworkParams(
                network_id=NetworkId(at),
                name=f"rollup-{at}",
                chain_id=chain_id_of(rollup_id_of(7000 + at)),
                signer=Address(bytes([at]) * 20),
                reporter=address_of_key(reporter_key(at)),
            )
            for at in range(1, networks + 1)
        ),
        resolver=address_of_key(RESOLVER_KEY),
        serial_rounds=serial_rounds,
        abort_rule=abort_rule,
        has_verdicts=True,
        l1_chain_id=chain_id_of(rollup_id_of(900)),
        attesters=(),
        attester_threshold=0,
    )


def rollup_of(network: int) -> RollupId:
    """The rollup id of a network."""
    return rollup_id_of(7000 + network)


class Op(NamedTuple):
    """What one transaction does on its rollup."""

    kind: str
    """send, spend, burn, mint, expect or fail."""
    amount: int = 0
    network: int = 0
    """burn: where to; mint: from where."""


class LegPlan(NamedTuple):
    """One transaction."""

    network: int
    sender: int
    nonce: int
    op: Op


class Item(NamedTuple):
    """One submission: a bundle, or a plain transaction where `is_plain`."""

    legs: tuple[LegPlan, ...]
    is_plain: bool = False


Block = tuple[Item, ...]
"""One sequenced height, in the order of acceptance."""


def bundle_hash_of(height: int, ordinal: int, item: Item) -> BundleHash:
    """Unique for a place and a content."""
    return BundleHash(keccak256(f"{height} {ordinal} {item}".encode()))


@dataclass(slots=True)
class State:
    """One rollup."""

    balances: dict[int, int] = field(default_factory=dict)
    nonces: dict[int, int] = field(default_factory=dict)
    hot: int = 0
    exits: int = 0

    def balance(self, account: int) -> int:
        return self.balances.get(account, START_BALANCE)

    def digest(self) -> bytes:
        return keccak256(
            repr((sorted(self.balances.items()), sorted(self.nonces.items()), self.hot, self.exits)).encode()
        )


class Done(NamedTuple):
    """What one transaction did."""

    status: str
    """succeeded, reverted or skipped."""
    exit: tuple[bytes, int] | None = None
    mint: tuple[int, bytes] | None = None


def exit_leaf(source: int, dest: int, sender: int, amount: int) -> bytes:
    return keccak256(f"{source} {dest} {sender} {amount}".encode())


def run(state: State, leg: LegPlan) -> Done:
    """Execute one transaction on a rollup, as an EVM would: a revert uses the nonce, a skip does nothing."""
    op, sender = leg.op, leg.sender
    if state.nonces.get(sender, 0) != leg.nonce:
        return Done("skipped")
    state.nonces[sender] = leg.nonce + 1
    if op.kind == "fail" or (op.kind in ("send", "burn", "spend") and state.balance(sender) < op.amount):
        return Done("reverted")
    if op.kind == "expect":
        if state.hot != op.amount:
            return Done("reverted")
        state.hot += 1
    elif op.kind == "mint":
        state.balances[sender] = state.balance(sender) + op.amount
        return Done("succeeded", mint=(op.network, exit_leaf(op.network, leg.network, sender, op.amount)))
    else:
        state.balances[sender] = state.balance(sender) - op.amount
        if op.kind == "send":
            state.balances[sender + 1] = state.balance(sender + 1) + op.amount
        if op.kind == "burn":
            state.exits += 1
            return Done("succeeded", exit=(exit_leaf(leg.network, op.network, sender, op.amount), state.exits - 1))
    return Done("succeeded")


# The protocol's side


class DerivedBlock(NamedTuple):
    """What one rollup derives of a height, and what its transactions do."""

    derived: Derived
    plans: tuple[LegPlan, ...]


def touched_of(block: Block) -> tuple[RollupId, ...]:
    return tuple(sorted({rollup_of(leg.network) for item in block for leg in item.legs}))


def derive(block: Block, height: int, network: int) -> DerivedBlock:
    """The derived list of one rollup; every bundle is admitted."""
    admitted: list[AdmittedLeg] = []
    plans: list[LegPlan] = []
    bundles: list[AdmittedBundle] = []
    ordinal = -1
    for item in block:
        ordinal += not item.is_plain
        bundle = bundle_hash_of(height, ordinal, item)
        if not item.is_plain and any(leg.network == network for leg in item.legs):
            bundles.append(AdmittedBundle(bundle, ordinal, tuple(rollup_of(leg.network) for leg in item.legs)))
        for index, leg in enumerate(item.legs):
            if leg.network == network:
                trailer = None if item.is_plain else Trailer(bundle, index, len(item.legs))
                admitted.append(AdmittedLeg(b"payload", _transaction(leg, trailer), len(admitted)))
                plans.append(leg)
    derived = Derived(
        height=Height(height),
        timestamp_s=height,
        admitted=tuple(admitted),
        dropped=(),
        bundles=tuple(bundles),
        touched=touched_of(block),
    )
    return DerivedBlock(derived, tuple(plans))


def _transaction(leg: LegPlan, trailer: Trailer | None) -> Transaction:
    return Transaction(
        tx_type=2,
        chain_id=7000 + leg.network,
        nonce=leg.nonce,
        gas_limit=21_000,
        max_fee_per_gas=0,
        max_priority_fee_per_gas=0,
        to=b"",
        value=0,
        calldata=b"",
        sender=Address(leg.sender.to_bytes(20, "big")),
        tx_hash=TxHash(bytes(32)),
        trailer=trailer,
        leg_hash=LegHash(bytes(32)) if trailer else None,
    )


class Executed(NamedTuple):
    """A rollup after a height."""

    state: State
    block_hash: bytes
    failures: tuple[LegFailure, ...] = ()
    exits: tuple[LegExit, ...] = ()
    mints: tuple[LegMint, ...] = ()


def execute(parent: Executed, block: DerivedBlock, aborts: AbortSet, params: AgglayerParams) -> Executed:
    """What a rollup makes of a height without an abort set."""
    listed = plan(block.derived, aborts, params=params)
    state = copy.deepcopy(parent.state)
    ordinals = {bundle.bundle_hash: bundle.ordinal for bundle in block.derived.bundles}
    failures, exits, mints = [], [], []
    for at, place in enumerate(listed.places):
        leg, trailer = block.plans[place], block.derived.admitted[place].transaction.trailer
        if at in listed.burns:
            assert trailer is not None
            if state.nonces.get(leg.sender, 0) == leg.nonce:
                state.nonces[leg.sender] = leg.nonce + 1
            else:
                key = (ordinals[trailer.bundle_hash], trailer.bundle_hash, trailer.leg_index)
                failures.append(LegFailure(*key, FailureKind.NONCE_MISMATCH))
            continue
        done = run(state, leg)
        if trailer is None:
            continue
        key = (ordinals[trailer.bundle_hash], trailer.bundle_hash, trailer.leg_index)
        if done.status != "succeeded":
            kind = FailureKind.REVERTED if done.status == "reverted" else FailureKind.SKIPPED
            failures.append(LegFailure(*key, kind))
        if done.exit is not None:
            exits.append(LegExit(*key, *done.exit))
        if done.mint is not None:
            mints.append(LegMint(*key, NetworkId(done.mint[0]), done.mint[1]))
    block_hash = parent.block_hash
    if listed.transactions:
        block_hash = keccak256(parent.block_hash + state.digest() + bytes([len(listed.transactions)]))
    return Executed(state, block_hash, tuple(failures), tuple(exits), tuple(mints))


def genesis(network: int) -> Executed:
    """A rollup before height 1."""
    return Executed(State(), keccak256(b"genesis %d" % network))


def sign_report(report: Report, key: PrivateKey | None = None) -> SignedReport:
    """Signed by the network's reporter, or by somebody else."""
    return _signed(encode_report(report), (key or reporter_key(report.network_id)).secret)


@lru_cache(4_096)
def _signed(encoded: bytes, secret: bytes) -> SignedReport:
    return SignedReport(encoded, sign_digest(report_digest(encoded, chain_id=CHAIN_ID), PrivateKey(secret)))


def report_of(
    executed: Executed, *, parent: Executed, epoch: int, height: int, network: int, aborts: AbortSet
) -> SignedReport:
    """What a rollup signs."""
    return sign_report(
        Report(
            epoch=epoch,
            height=Height(height),
            network_id=NetworkId(network),
            aborts_hash=aborts_hash(aborts),
            parent_hash=parent.block_hash,
            block_hash=executed.block_hash,
            failures=executed.failures,
            exits=executed.exits,
            mints=executed.mints,
        )
    )


class Node:
    """A rollup node as the mailbox sees it: executes ahead of the verdicts, reports, checks every verdict."""

    def __init__(self, network: int, params: AgglayerParams, *, depth: int) -> None:
        self.network = network
        self.params = params
        self.depth = depth
        self.reader = VerdictReader(chain_id=CHAIN_ID, params=params)
        self.states: list[Executed] = [genesis(network)]
        """Of every height with a verdict, genesis first."""
        self.aborts: list[AbortSet] = [AbortSet()]
        self._closed: list[tuple[SignedReport, ...]] = []
        self._executed: dict[tuple[bytes, int, bytes], Executed] = {}

    @property
    def height(self) -> int:
        """Of the last verdict taken."""
        return self.reader.height

    def take(self, event: MailboxEvent, log: Sequence[Block]) -> None:
        """One event of the stream."""
        match event:
            case NoticePosted(signed=signed):
                notice = self.reader.take_notice(signed)
                if notice.kind is NoticeKind.VOID:
                    del self.states[notice.height :]
                    del self.aborts[notice.height :]
                self._closed = []
            case RoundClosed():
                if (event.epoch, event.height) == (self.reader.epoch, self.height + 1):
                    assert event.round_number <= len(self._closed), "rounds come in order, or again"
                    self._closed[event.round_number :] = [event.reports]
            case VerdictSigned(signed=signed_verdict, rounds=rounds):
                block = log[self.height]
                found = self.reader.take_verdict(signed_verdict, rounds, touched=touched_of(block))
                aborts = found.verdict.aborts
                made = self._execute(self.states[-1], self.height, aborts, block)
                for report in found.reports:
                    if report.network_id == self.network:
                        assert report.block_hash == made.block_hash, "the rollup stands where its own report said"
                self.states.append(made)
                self.aborts.append(aborts)
                self._closed = []

    def reports(self, log: Sequence[Block]) -> list[SignedReport]:
        """What it has to report now, of every height without a verdict that it executed."""
        parent, made = self.states[-1], []
        for height in range(self.height + 1, min(len(log), self.height + 1 + self.depth) + 1):
            aborts = self._abort_set(height)
            executed = self._execute(parent, height, aborts, log[height - 1])
            if rollup_of(self.network) in touched_of(log[height - 1]):
                made.append(
                    report_of(
                        executed,
                        parent=parent,
                        epoch=self.reader.epoch,
                        height=height,
                        network=self.network,
                        aborts=aborts,
                    )
                )
            parent = executed
        return made

    def _abort_set(self, height: int) -> AbortSet:
        aborts = self.reader.standing.base(Height(height))
        if height == self.height + 1:
            for number, reports in enumerate(self._closed):
                read = [decoded(report) for report in reports]
                following = next_aborts(aborts, read, round_number=number, params=self.params)
                assert following is not None, "a closed round is not the last"
                aborts = following
        return aborts

    def _execute(self, parent: Executed, height: int, aborts: AbortSet, block: Block) -> Executed:
        key = (parent.block_hash, height, aborts_hash(aborts))
        if key not in self._executed:
            self._executed[key] = execute(parent, derive(block, height, self.network), aborts, self.params)
        return self._executed[key]


def decoded(signed: SignedReport) -> Report:
    """The report."""
    return decode_report(signed.report)


# The naive side


class Reference:
    """Executes the heights bundle by bundle; what it strikes is what the protocol must strike."""

    def __init__(self, networks: Iterable[int]) -> None:
        self.states = {network: State() for network in networks}
        self.struck: list[tuple[Abort, ...]] = []

    def height(
        self, block: Block, height: int, *, left_out: Iterable[BundleHash] = (), evicted: Iterable[int] = ()
    ) -> None:
        """One height; bundles that a notice leaves out are not executed."""
        struck: list[Abort] = []
        ordinal = -1
        gone, silent = set(left_out), set(evicted)
        for item in block:
            if item.is_plain:
                run(self.states[item.legs[0].network], item.legs[0])
                continue
            ordinal += 1
            bundle = bundle_hash_of(height, ordinal, item)
            if bundle in gone or silent.intersection(leg.network for leg in item.legs):
                continue
            abort = self._bundle(item, ordinal, bundle)
            if abort is not None:
                struck.append(abort)
        self.struck.append(tuple(struck))

    def _bundle(self, item: Item, ordinal: int, bundle: BundleHash) -> Abort | None:
        before = copy.deepcopy(self.states)
        done = [run(self.states[leg.network], leg) for leg in item.legs]
        reason = self._reason(item, done)
        if reason is None:
            return None
        self.states = before
        removed = 0
        for index, (leg, result) in enumerate(zip(item.legs, done)):
            if result.status == "skipped":
                removed |= 1 << index
            else:
                self.states[leg.network].nonces[leg.sender] = leg.nonce + 1
        return Abort(ordinal, bundle, reason, removed, False)

    def _reason(self, item: Item, done: Sequence[Done]) -> AbortReason | None:
        for result in done:
            if result.status != "succeeded":
                return AbortReason.REVERTED if result.status == "reverted" else AbortReason.SKIPPED
        burnt = [(leg.network, result.exit[0]) for leg, result in zip(item.legs, done) if result.exit is not None]
        for result in done:
            if result.mint is not None:
                if result.mint not in burnt:
                    return AbortReason.UNMATCHED_MINT
                burnt.remove(result.mint)
        return None
