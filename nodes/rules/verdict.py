"""Verdicts: which bundles of a height are struck so that all legs of every other one succeed, and how all agree on it.

A height is resolved in rounds. In round r every rollup that the height touches executes it without the abort set S_r
and reports. `next_aborts` is the step from the reports of a round to S_{r+1}, or to None: nothing failed, S_r is the
verdict. It is a barrier over all reports of the round, never a fold by arrival, so every node that has the same reports
reaches the same verdict. `plan` is the other half: what a rollup hands to its engine without a given set.

Who collects reports, when rounds close and what happens to a silent rollup: `nodes.rules.resolution`.
"""

import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import NamedTuple

from nodes.model.agglayer import AgglayerParams, NetworkId
from nodes.model.errors import InvalidVerdict
from nodes.model.execution import AbortReason, AdmittedLeg, Derived, Transaction
from nodes.model.ids import ZERO_HASH, Address, BundleHash, Height, RollupId, TxHash
from nodes.model.verdict import (
    ALL_LEGS,
    Abort,
    AbortSet,
    FailureKind,
    LegExit,
    LegFailure,
    LegMint,
    Notice,
    NoticeKind,
    Report,
    SignedNotice,
    SignedReport,
    Verdict,
    VoidedBundle,
)
from nodes.rules import rlp
from nodes.rules.byte_reader import ByteReader
from nodes.rules.hashes import keccak256

DEPOSIT_TYPE = 0x7E

BURN_GAS = 21_000
BURN_ADDRESS = Address(bytes.fromhex("000000000000000000000000000000000000dead"))
"""Without code: a transaction to it does nothing but advance its sender's nonce."""

_SET_HEAD = struct.Struct(">II")
_ABORT = struct.Struct(">I32sB32s?")
_REPORT_HEAD = struct.Struct(">IQI32s32s32sIII")
_FAILURE = struct.Struct(">I32sBB")
_EXIT = struct.Struct(">I32sB32sI")
_MINT = struct.Struct(">I32sBI32s")
_NOTICE_HEAD = struct.Struct(">BIQII")
_VOIDED = struct.Struct(">QI32s")
_VERDICT_HEAD = struct.Struct(">IQI32s32sII")
_LENGTH = struct.Struct(">I")
_NETWORK = struct.Struct(">I")

_REASON_OF = {FailureKind.REVERTED: AbortReason.REVERTED, FailureKind.SKIPPED: AbortReason.SKIPPED}


# The round rule


def next_aborts(
    aborts: AbortSet, reports: Iterable[Report], *, round_number: int, params: AgglayerParams
) -> AbortSet | None:
    """The abort set of the next round, or None where nothing failed and `aborts` is the verdict.

    `reports` are those of all awaited rollups for this very set. While `round_number` (from 0) is below
    `params.serial_rounds` only the failing bundle of lowest ordinal is struck, which gives the same set as executing
    the bundles one by one; after that, or where `params.abort_rule` is "all", every failing one is.
    """
    reports = sorted(reports, key=lambda report: report.network_id)
    mismatches = {
        (failure.bundle_hash, failure.leg_index)
        for report in reports
        for failure in report.failures
        if failure.kind is FailureKind.NONCE_MISMATCH
    }
    if mismatches:
        # A burn in the wrong place moves the nonce of later legs: what else failed in this round proves nothing.
        return _without_burns(aborts, mismatches)
    failing = _failing(reports)
    if not failing:
        return None
    order = sorted(failing, key=lambda bundle: (failing[bundle][0], bundle))
    if params.abort_rule == "serial" and round_number < params.serial_rounds:
        order = order[:1]
    skipped: dict[BundleHash, int] = {}
    for report in reports:
        for failure in report.failures:
            if failure.kind is FailureKind.SKIPPED:
                skipped[failure.bundle_hash] = skipped.get(failure.bundle_hash, 0) | 1 << failure.leg_index
    struck = [
        Abort(failing[bundle][0], bundle, failing[bundle][1], skipped.get(bundle, 0), at > 0)
        for at, bundle in enumerate(order)
    ]
    return AbortSet(evicted=aborts.evicted, aborts=_ordered([*aborts.aborts, *struck]))


def _failing(reports: Sequence[Report]) -> dict[BundleHash, tuple[int, AbortReason]]:
    """Ordinal and reason of every bundle that must not stand: the reason is that of its first failed leg.

    Where rollups name different ordinals for a bundle one of them lies, and nobody can say which: the lowest counts.
    """
    failing: dict[BundleHash, tuple[int, AbortReason]] = {}
    failures = (failure for report in reports for failure in report.failures)
    for failure in sorted(failures, key=lambda failure: (failure.ordinal, failure.bundle_hash, failure.leg_index)):
        failing.setdefault(failure.bundle_hash, (failure.ordinal, _REASON_OF[failure.kind]))
    for mint in unmatched_mints(reports):
        failing.setdefault(mint.bundle_hash, (mint.ordinal, AbortReason.UNMATCHED_MINT))
    for report in reports if failing else ():
        for entry in entries_of(report):
            known = failing.get(entry.bundle_hash)
            if known is not None and entry.ordinal < known[0]:
                failing[entry.bundle_hash] = (entry.ordinal, known[1])
    return failing


def entries_of(report: Report) -> Iterator[LegFailure | LegExit | LegMint]:
    """Everything that a report says of legs."""
    return chain(report.failures, report.exits, report.mints)


def strikes(reports: Sequence[Report]) -> list[tuple[NetworkId, BundleHash]]:
    """Whose report keeps which bundle from standing: a leg of it failed there, or made a mint without its exit."""
    failed = {(report.network_id, failure.bundle_hash) for report in reports for failure in report.failures}
    return sorted(failed | {(network, mint.bundle_hash) for network, mint, index in _mints(reports) if index is None})


class MatchedMint(NamedTuple):
    """A contingent mint and the exit that it stands for."""

    network_id: NetworkId
    mint: LegMint
    leaf_index: int
    """Of the exit, in the tree of `mint.source_network`."""


def matched_mints(reports: Iterable[Report]) -> list[MatchedMint]:
    """The k-th mint of a leaf with the k-th equal exit of its bundle on the network it names, where there is one."""
    return [MatchedMint(network, mint, index) for network, mint, index in _mints(reports) if index is not None]


def unmatched_mints(reports: Iterable[Report]) -> list[LegMint]:
    """The contingent mints for which there is no such exit."""
    return [mint for _, mint, index in _mints(reports) if index is None]


def _mints(reports: Iterable[Report]) -> list[tuple[NetworkId, LegMint, int | None]]:
    reports = sorted(reports, key=lambda report: report.network_id)
    exits: dict[tuple[BundleHash, NetworkId, bytes], list[int]] = {}
    for report in reports:
        for made in report.exits:
            exits.setdefault((made.bundle_hash, report.network_id, made.leaf), []).append(made.leaf_index)
    taken: Counter[tuple[BundleHash, NetworkId, bytes]] = Counter()
    mints: list[tuple[NetworkId, LegMint, int | None]] = []
    for report in reports:
        for mint in report.mints:
            key = (mint.bundle_hash, mint.source_network, mint.leaf)
            equal = exits.get(key, [])
            mints.append((report.network_id, mint, equal[taken[key]] if taken[key] < len(equal) else None))
            taken[key] += 1
    return mints


def _without_burns(aborts: AbortSet, legs: set[tuple[BundleHash, int]]) -> AbortSet:
    """The same bundles, with these legs left out instead of burnt."""
    changed = []
    for abort in aborts.aborts:
        removed = abort.removed
        for bundle, leg_index in legs:
            if bundle == abort.bundle_hash:
                removed |= 1 << leg_index
        changed.append(abort._replace(removed=removed))
    if tuple(changed) == aborts.aborts:
        raise InvalidVerdict("a nonce mismatch was reported for a leg that was not burnt")
    return AbortSet(evicted=aborts.evicted, aborts=tuple(changed))


def _ordered(aborts: Iterable[Abort]) -> tuple[Abort, ...]:
    return tuple(sorted(aborts, key=lambda abort: (abort.ordinal, abort.bundle_hash)))


# Notices


class Standing:
    """Which notices hold: who is evicted, what is voided, which epoch it is. The same on every follower of verdicts."""

    def __init__(self) -> None:
        self.epoch = 0
        self._evicted_from: dict[NetworkId, Height] = {}
        self._voided: dict[Height, Mapping[BundleHash, VoidedBundle]] = {}
        """Never taken back, so it grows with the bundles that are voided."""

    def take(self, notice: Notice) -> None:
        """Take a notice into account; notices are taken in the order in which they were logged. Idempotent."""
        match notice.kind:
            case NoticeKind.EVICT:
                # The lower one: after a new epoch a rollup may be evicted from a height before the one it was already.
                since = self._evicted_from.get(notice.network_id, notice.height)
                self._evicted_from[notice.network_id] = min(since, notice.height)
            case NoticeKind.REJOIN:
                self._evicted_from.pop(notice.network_id, None)
            case NoticeKind.VOID:
                self.epoch = max(self.epoch, notice.epoch)
                for height, entries in groupby(notice.voided, key=lambda entry: entry.height):
                    # A new mapping, since copies share the old one; what was listed first stays.
                    added = {entry.bundle_hash: entry for entry in reversed(list(entries))}
                    self._voided[height] = {**added, **self._voided.get(height, {})}

    def copy(self) -> "Standing":
        """An equal one that can be changed alone."""
        made = Standing()
        made.epoch, made._evicted_from, made._voided = self.epoch, dict(self._evicted_from), dict(self._voided)
        return made

    @property
    def evicted(self) -> tuple[NetworkId, ...]:
        """Ascending."""
        return tuple(sorted(self._evicted_from))

    def has_voided(self, bundle: VoidedBundle) -> bool:
        """Whether a bundle is left out at its height, whatever ordinal it was listed with."""
        return bundle.bundle_hash in self._voided.get(bundle.height, ())

    def base(self, height: Height) -> AbortSet:
        """S_0 of a height that is resolved while exactly these notices hold."""
        return AbortSet(
            evicted=tuple(sorted(network for network, since in self._evicted_from.items() if since <= height)),
            aborts=_ordered(
                Abort(entry.ordinal, entry.bundle_hash, AbortReason.VOIDED, ALL_LEGS, False)
                for entry in self._voided.get(height, {}).values()
            ),
        )


# Execution without an abort set


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a rollup executes of a derived height, without the legs that an abort set strikes."""

    transactions: tuple[tuple[bytes, Transaction], ...]
    """(payload, decoded) in order, a burn in the place of each burnt leg."""
    places: tuple[int, ...]
    """For each of them the index in `Derived.admitted`."""
    burns: frozenset[int]
    """Indexes in `transactions` that are burns."""
    aborted: Mapping[int, AbortReason]
    """Index in `Derived.admitted` to the reason, for every leg that is struck, burnt or left out."""


def plan(derived: Derived, aborts: AbortSet, *, params: AgglayerParams) -> Plan:
    """The list for the engine. A struck leg is burnt unless its abort says that it is removed."""
    struck = {abort.bundle_hash: abort for abort in aborts.aborts}
    evicted = {network.rollup_id for network in params.networks if network.network_id in aborts.evicted}
    for bundle in derived.bundles:
        if not evicted.isdisjoint(bundle.rollup_ids):
            struck[bundle.bundle_hash] = Abort(bundle.ordinal, bundle.bundle_hash, AbortReason.EVICTED, ALL_LEGS, False)
    transactions: list[tuple[bytes, Transaction]] = []
    places: list[int] = []
    burns: set[int] = set()
    aborted: dict[int, AbortReason] = {}
    for index, leg in enumerate(derived.admitted):
        trailer = leg.transaction.trailer
        abort = struck.get(trailer.bundle_hash) if trailer is not None else None
        if trailer is None or abort is None:
            transactions.append((leg.payload, leg.transaction))
            places.append(index)
            continue
        aborted[index] = abort.reason
        if not abort.removed >> trailer.leg_index & 1:
            burns.add(len(transactions))
            transactions.append(burn_of(leg, height=derived.height))
            places.append(index)
    return Plan(transactions=tuple(transactions), places=tuple(places), burns=frozenset(burns), aborted=aborted)


def burn_of(leg: AdmittedLeg, *, height: Height) -> tuple[bytes, Transaction]:
    """The deposit transaction (type 0x7E) that stands in a burnt leg's place, raw and decoded.

    It enters only from here: it needs no signature, so no payload of that type is ever accepted.
    """
    transaction = leg.transaction
    trailer = transaction.trailer
    assert trailer is not None, "only legs of bundles are burnt"
    source = keccak256(b"lockstep.burn" + trailer.bundle_hash + bytes([trailer.leg_index]) + height.to_bytes(8, "big"))
    mint, value, is_system, calldata = b"", b"", b"", b""
    fields = [source, transaction.sender, BURN_ADDRESS, mint, value, BURN_GAS.to_bytes(2, "big"), is_system, calldata]
    payload = bytes([DEPOSIT_TYPE]) + rlp.encode_list([rlp.encode_bytes(field) for field in fields])
    decoded = transaction._replace(
        tx_type=DEPOSIT_TYPE,
        gas_limit=BURN_GAS,
        max_fee_per_gas=0,
        max_priority_fee_per_gas=0,
        to=BURN_ADDRESS,
        value=0,
        calldata=b"",
        tx_hash=TxHash(keccak256(payload)),
        trailer=None,
        leg_hash=None,
    )
    return payload, decoded


def touched_networks(derived_touched: Iterable[RollupId], aborts: AbortSet, params: AgglayerParams) -> set[NetworkId]:
    """The networks whose reports a height awaits: those that have payloads in it and are not evicted."""
    touched = set(derived_touched)
    return {
        network.network_id
        for network in params.networks
        if network.rollup_id in touched and network.network_id not in aborts.evicted
    }


# Encodings. Integers are big-endian; every list is preceded by its length as u32.


def encode_aborts(aborts: AbortSet) -> bytes:
    """u32 evicted | u32 aborts | evicted u32 each | (u32 ordinal, hash, u8 reason, removed 32, u8 together) each."""
    return (
        _SET_HEAD.pack(len(aborts.evicted), len(aborts.aborts))
        + b"".join([_NETWORK.pack(network) for network in aborts.evicted])
        + b"".join(
            [
                _ABORT.pack(entry.ordinal, entry.bundle_hash, entry.reason, entry.removed.to_bytes(32, "big"), entry[4])
                for entry in aborts.aborts
            ]
        )
    )


def aborts_hash(aborts: AbortSet) -> bytes:
    """32 bytes by which reports name the set they executed without."""
    return keccak256(b"lockstep.aborts" + encode_aborts(aborts))


def encode_report(report: Report) -> bytes:
    """The bytes that are signed, after `report_digest`'s domain."""
    head = _REPORT_HEAD.pack(
        report.epoch, report.height, report.network_id, report.aborts_hash, report.parent_hash, report.block_hash,
        len(report.failures), len(report.exits), len(report.mints),
    )  # fmt: skip
    return (
        head
        + b"".join([_FAILURE.pack(*failure) for failure in report.failures])
        + b"".join([_EXIT.pack(*made) for made in report.exits])
        + b"".join([_MINT.pack(*mint) for mint in report.mints])
    )


def decode_report(data: bytes) -> Report:
    """The report of these exact bytes. Raises InvalidVerdict."""
    reader = ByteReader(data, "report")
    epoch, height, network, aborts, parent, block, failures, exits, mints = reader.one(_REPORT_HEAD)
    report = Report(
        epoch=epoch,
        height=Height(height),
        network_id=NetworkId(network),
        aborts_hash=aborts,
        parent_hash=parent,
        block_hash=block,
        failures=tuple(
            LegFailure(ordinal, BundleHash(bundle), leg, reader.known(FailureKind, kind))
            for ordinal, bundle, leg, kind in reader.many(_FAILURE, failures)
        ),
        exits=tuple(
            LegExit(ordinal, BundleHash(bundle), leg, leaf, index)
            for ordinal, bundle, leg, leaf, index in reader.many(_EXIT, exits)
        ),
        mints=tuple(
            LegMint(ordinal, BundleHash(bundle), leg, NetworkId(source), leaf)
            for ordinal, bundle, leg, source, leaf in reader.many(_MINT, mints)
        ),
    )
    reader.end()
    return report


def report_digest(report: bytes, *, chain_id: bytes) -> bytes:
    """What the reporter signs. `chain_id` is the sequencer chain's, so that no report counts on another testnet."""
    return keccak256(b"lockstep.report" + chain_id + report)


def reports_hash(rounds: Sequence[Sequence[SignedReport]]) -> bytes:
    """Commits to every signed report of every round, in round order and ascending by network."""
    return keccak256(
        b"lockstep.reports"
        + b"".join(
            [
                keccak256(b"".join([keccak256(report + signature) for report, signature in reports]))
                for reports in rounds
            ]
        )
    )


def encode_notice(notice: Notice) -> bytes:
    """u8 kind | u32 epoch | u64 height | u32 network | u32 voided | (u64 height, u32 ordinal, hash) each."""
    return _NOTICE_HEAD.pack(
        notice.kind, notice.epoch, notice.height, notice.network_id, len(notice.voided)
    ) + b"".join([_VOIDED.pack(*entry) for entry in notice.voided])


def decode_notice(data: bytes) -> Notice:
    """The notice of these exact bytes. Raises InvalidVerdict."""
    reader = ByteReader(data, "notice")
    kind, epoch, height, network, count = reader.one(_NOTICE_HEAD)
    notice = Notice(
        kind=reader.known(NoticeKind, kind),
        epoch=epoch,
        height=Height(height),
        network_id=NetworkId(network),
        voided=tuple(
            VoidedBundle(Height(at), ordinal, BundleHash(bundle)) for at, ordinal, bundle in reader.many(_VOIDED, count)
        ),
    )
    reader.end()
    return notice


def notice_digest(notice: bytes, *, chain_id: bytes) -> bytes:
    """What the resolver signs."""
    return keccak256(b"lockstep.notice" + chain_id + notice)


def notice_payload(signed: SignedNotice) -> bytes:
    """A notice as it stands in the sequencer's log: signature 65 | notice."""
    return signed.signature + signed.notice


def notice_of_payload(payload: bytes) -> SignedNotice:
    """The reverse; anybody may log anything, so the signature must be checked."""
    return SignedNotice(payload[65:], payload[:65])


def encode_verdict(verdict: Verdict) -> bytes:
    """Head, abort set and notices, each of the latter two preceded by its length."""
    aborts = encode_aborts(verdict.aborts)
    notices = [notice_payload(notice) for notice in verdict.notices]
    return (
        _VERDICT_HEAD.pack(
            verdict.epoch, verdict.height, verdict.rounds, verdict.reports_hash, verdict.previous, len(aborts),
            len(notices),
        )
        + aborts
        + b"".join([_LENGTH.pack(len(notice)) + notice for notice in notices])
    )  # fmt: skip


def decode_verdict(data: bytes) -> Verdict:
    """The verdict of these exact bytes. Raises InvalidVerdict."""
    reader = ByteReader(data, "verdict")
    epoch, height, rounds, reports, previous, aborts_bytes, notices = reader.one(_VERDICT_HEAD)
    aborts = _decode_aborts(reader.take(aborts_bytes))
    verdict = Verdict(
        epoch=epoch,
        height=Height(height),
        aborts=aborts,
        rounds=rounds,
        reports_hash=reports,
        notices=tuple(notice_of_payload(reader.take(reader.one(_LENGTH)[0])) for _ in range(reader.checked(notices))),
        previous=previous,
    )
    reader.end()
    return verdict


def _decode_aborts(data: bytes) -> AbortSet:
    reader = ByteReader(data, "abort set")
    evicted, aborts = reader.one(_SET_HEAD)
    decoded = AbortSet(
        evicted=tuple(NetworkId(network) for (network,) in reader.many(_NETWORK, evicted)),
        aborts=tuple(
            Abort(ordinal, BundleHash(bundle), reader.known(AbortReason, reason), int.from_bytes(removed, "big"), flag)
            for ordinal, bundle, reason, removed, flag in reader.many(_ABORT, aborts)
        ),
    )
    reader.end()
    return decoded


def verdict_digest(verdict: bytes, *, chain_id: bytes) -> bytes:
    """What the resolver signs."""
    return keccak256(b"lockstep.verdict" + chain_id + verdict)


def verdict_hash(verdict: bytes) -> bytes:
    """What the next verdict names as its previous one, and a certificate as its verdict root."""
    return keccak256(verdict)


NO_VERDICT = ZERO_HASH
"""`previous` of the first verdict."""
