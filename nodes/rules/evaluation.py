"""Judging what others signed: whether a report can be true, and whether a verdict follows from its reports.

The resolver asks the first of each report it uses, every follower asks the second of each verdict, so that nobody has
to believe the resolver. What a verdict strikes is decided in `nodes.rules.verdict`; signatures are recovered here.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

from nodes.model.agglayer import AgglayerParams, NetworkId
from nodes.model.errors import InvalidVerdict
from nodes.model.execution import AdmittedBundle
from nodes.model.ids import Address, BundleHash, Height, RollupId
from nodes.model.verdict import (
    AbortSet,
    FailureKind,
    LegExit,
    LegMint,
    Notice,
    NoticeKind,
    Report,
    SignedNotice,
    SignedReport,
    SignedVerdict,
    Verdict,
)
from nodes.rules.signing import recover_digest
from nodes.rules.verdict import (
    NO_VERDICT,
    Standing,
    aborts_hash,
    decode_notice,
    decode_report,
    decode_verdict,
    entries_of,
    next_aborts,
    notice_digest,
    report_digest,
    reports_hash,
    strikes,
    touched_networks,
    verdict_digest,
    verdict_hash,
)

REMEMBERED_SIGNERS = 8_192
"""All nodes of a process check the same signatures; each is recovered once."""


def flaw_of_report(report: Report, aborts: AbortSet) -> str:
    """Why no execution without `aborts` can give this report; empty where one can.

    Only what the report itself contradicts: whether a leg really failed is known to those who execute it.
    """
    struck = {abort.bundle_hash: abort for abort in aborts.aborts}
    failed: set[tuple[BundleHash, int]] = set()
    for failure in report.failures:
        leg = (failure.bundle_hash, failure.leg_index)
        name = f"leg {failure.leg_index} of bundle {failure.bundle_hash.hex()}"
        abort = struck.get(failure.bundle_hash)
        if leg in failed:
            return f"{name} failed twice"
        failed.add(leg)
        if failure.kind is FailureKind.NONCE_MISMATCH:
            if abort is None or abort.removed >> failure.leg_index & 1:
                return f"the nonce of {name} mismatches, which was not burnt"
        elif abort is not None:
            return f"{name} failed, which was struck"
    bridged: list[LegExit | LegMint] = [*report.exits, *report.mints]
    for entry in bridged:
        if entry.bundle_hash in struck:
            return f"leg {entry.leg_index} of bundle {entry.bundle_hash.hex()} touched the bridge, and was struck"
        if (entry.bundle_hash, entry.leg_index) in failed:
            return f"leg {entry.leg_index} of bundle {entry.bundle_hash.hex()} touched the bridge, and failed"
    for before, made in pairwise(report.exits):
        if made.leaf_index <= before.leaf_index:
            return f"leaf {made.leaf_index} of its exit tree follows leaf {before.leaf_index}"
    return _flaw_of_ordinals(report)


def _flaw_of_ordinals(report: Report) -> str:
    """Only against itself: the ordinals of struck bundles are what other rollups said."""
    ordinals: dict[BundleHash, int] = {}
    for entry in entries_of(report):
        if ordinals.setdefault(entry.bundle_hash, entry.ordinal) != entry.ordinal:
            known = ordinals[entry.bundle_hash]
            return f"bundle {entry.bundle_hash.hex()} has ordinal {entry.ordinal}, and {known} elsewhere"
    return ""


def foreign_strikes(
    rounds: Iterable[Sequence[Report]], bundles: Iterable[AdmittedBundle], *, params: AgglayerParams
) -> list[tuple[NetworkId, BundleHash]]:
    """Who reported a failure of one of these bundles of the height without having a leg in it; each pair once.

    No execution gives such a report. It counts all the same: only rollups that share a bundle hold the evidence of
    where its legs are, and a verdict must follow from its reports for everybody else as well.
    """
    rollups = {bundle.bundle_hash: bundle.rollup_ids for bundle in bundles}
    ids = {network.network_id: network.rollup_id for network in params.networks}
    return sorted(
        {
            (network, bundle)
            for reports in rounds
            for network, bundle in strikes(reports)
            if bundle in rollups and ids[network] not in rollups[bundle]
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedVerdict:
    """A verdict that follows from its reports."""

    verdict: Verdict
    hash: bytes
    reports: tuple[Report, ...]
    """Of the last round, ascending by network: what stands. Empty where none were awaited."""


def evaluate(
    verdict: Verdict,
    rounds: Sequence[Sequence[SignedReport]],
    *,
    base: AbortSet,
    touched: Iterable[RollupId],
    chain_id: bytes,
    params: AgglayerParams,
) -> tuple[Report, ...]:
    """The reports of the last round, where the verdict follows from all of them. Raises InvalidVerdict.

    `base` is S_0 (`Standing.base`), `touched` every rollup with payloads at the height (`Derived.touched`). Place and
    signature of the verdict itself are the caller's to check; `VerdictReader` does.
    """
    where = f"verdict of height {verdict.height}, epoch {verdict.epoch}"
    if verdict.reports_hash != reports_hash(rounds) or verdict.rounds != len(rounds):
        raise InvalidVerdict(f"{where}: it was not signed for the {len(rounds)} rounds of reports it came with")
    awaited = touched_networks(touched, base, params)
    aborts = base
    reports: tuple[Report, ...] = ()
    parents: dict[NetworkId, bytes] = {}
    if bool(awaited) != bool(rounds):
        raise InvalidVerdict(f"{where}: {len(rounds)} rounds for {len(awaited)} awaited rollups")
    for number, signed in enumerate(rounds):
        reports = _reports_of_round(
            signed,
            aborts,
            epoch=verdict.epoch,
            height=verdict.height,
            awaited=awaited,
            chain_id=chain_id,
            params=params,
            where=f"{where}, round {number}",
        )
        for report in reports:
            if parents.setdefault(report.network_id, report.parent_hash) != report.parent_hash:
                raise InvalidVerdict(f"{where}, round {number}: network {report.network_id} moved to another parent")
        following = next_aborts(aborts, reports, round_number=number, params=params)
        is_last = number == len(rounds) - 1
        if is_last != (following is None):
            raise InvalidVerdict(f"{where}: round {number} is {'not ' if is_last else ''}the last by its reports")
        aborts = aborts if following is None else following
    if aborts != verdict.aborts:
        raise InvalidVerdict(f"{where}: its abort set is not the one that its reports give")
    return reports


def aborts_after_round(
    signed: Sequence[SignedReport],
    aborts: AbortSet,
    *,
    epoch: int,
    height: Height,
    round_number: int,
    awaited: Collection[NetworkId],
    chain_id: bytes,
    params: AgglayerParams,
) -> AbortSet:
    """The set of the round after a closed one, in which everybody executed without `aborts`. Raises InvalidVerdict."""
    where = f"round {round_number} of height {height}"
    reports = _reports_of_round(
        signed, aborts, epoch=epoch, height=height, awaited=awaited, chain_id=chain_id, params=params, where=where
    )
    following = next_aborts(aborts, reports, round_number=round_number, params=params)
    if following is None:
        raise InvalidVerdict(f"{where}: it was closed, and nothing failed in it")
    return following


def _reports_of_round(
    signed: Sequence[SignedReport],
    aborts: AbortSet,
    *,
    epoch: int,
    height: Height,
    awaited: Collection[NetworkId],
    chain_id: bytes,
    params: AgglayerParams,
    where: str,
) -> tuple[Report, ...]:
    """The reports, one of each awaited network, ascending, all of this round. Raises InvalidVerdict."""
    wanted = (epoch, height, aborts_hash(aborts))
    reports = tuple(
        [_verified_report(entry, aborts, chain_id=chain_id, params=params, where=where) for entry in signed]
    )
    for report in reports:
        if (report.epoch, report.height, report.aborts_hash) != wanted:
            raise InvalidVerdict(
                f"{where}: the report of network {report.network_id} is of another height, epoch or abort set"
            )
    networks = [report.network_id for report in reports]
    if networks != sorted(awaited):
        raise InvalidVerdict(f"{where}: it has reports of networks {networks}, not of {sorted(awaited)}")
    return reports


def _verified_report(
    signed: SignedReport, aborts: AbortSet, *, chain_id: bytes, params: AgglayerParams, where: str
) -> Report:
    report = decode_report(signed.report)
    network = next((entry for entry in params.networks if entry.network_id == report.network_id), None)
    if network is None:
        raise InvalidVerdict(f"{where}: a report of network {report.network_id}, which is unknown")
    if signer_of_report(signed, chain_id=chain_id) != network.reporter:
        raise InvalidVerdict(f"{where}: the report of {network.name} is not signed by its reporter")
    flaw = flaw_of_report(report, aborts)
    if flaw:
        raise InvalidVerdict(f"{where}: the report of {network.name} contradicts itself: {flaw}")
    return report


# Signatures


@lru_cache(maxsize=REMEMBERED_SIGNERS)
def _signer_of(digest: bytes, signature: bytes) -> Address | None:
    return recover_digest(digest, signature)


def signer_of_report(signed: SignedReport, *, chain_id: bytes) -> Address | None:
    """Who signed a report."""
    return _signer_of(report_digest(signed.report, chain_id=chain_id), signed.signature)


def verified_notice(signed: SignedNotice, *, chain_id: bytes, params: AgglayerParams) -> Notice:
    """The notice. Raises InvalidVerdict unless the resolver signed it for this testnet."""
    if _signer_of(notice_digest(signed.notice, chain_id=chain_id), signed.signature) != params.resolver:
        raise InvalidVerdict("a notice is not signed by the resolver")
    return decode_notice(signed.notice)


def verified_verdict(signed: SignedVerdict, *, chain_id: bytes, params: AgglayerParams) -> Verdict:
    """The verdict, of which nothing else is checked. Raises InvalidVerdict unless the resolver signed it."""
    verdict = decode_verdict(signed.verdict)
    if _signer_of(verdict_digest(signed.verdict, chain_id=chain_id), signed.signature) != params.resolver:
        raise InvalidVerdict(
            f"verdict of height {verdict.height}, epoch {verdict.epoch}: it is not signed by the resolver"
        )
    return verdict


@dataclass(slots=True, kw_only=True)
class VerdictReader:
    """Follows a mailbox by verdicts alone, and believes none of them: place, signature, reports and parents must fit.

    Raises InvalidVerdict from every method, and then nothing has changed.
    """

    chain_id: bytes
    params: AgglayerParams
    standing: Standing = field(default_factory=Standing)
    epoch: int = 0
    height: Height = field(default=Height(0))
    hash: bytes = NO_VERDICT
    """Of the last verdict taken."""
    _hashes: dict[Height, bytes] = field(default_factory=dict)

    def take_notice(self, signed: SignedNotice) -> Notice:
        """A notice that was posted. VOID: the verdicts from its height on are forgotten."""
        notice = verified_notice(signed, chain_id=self.chain_id, params=self.params)
        if notice.kind is NoticeKind.VOID and notice.epoch > self.epoch:
            self.epoch = notice.epoch
            while self.height >= notice.height:
                self._hashes.pop(self.height, None)
                self.height = Height(self.height - 1)
            self.hash = self._hashes.get(self.height, NO_VERDICT)
        self.standing.take(notice)
        return notice

    def take_verdict(
        self, signed: SignedVerdict, rounds: Sequence[Sequence[SignedReport]], *, touched: Iterable[RollupId]
    ) -> EvaluatedVerdict:
        """The next verdict. The notices that it carries hold from then on."""
        verdict = verified_verdict(signed, chain_id=self.chain_id, params=self.params)
        where = f"verdict of height {verdict.height}, epoch {verdict.epoch}"
        if verdict.height != self.height + 1 or verdict.previous != self.hash:
            raise InvalidVerdict(f"{where}: it does not follow that of height {self.height}, {self.hash.hex()}")
        # On a copy: nothing holds before the whole verdict is found to be right.
        standing = self.standing.copy()
        for carried in verdict.notices:
            standing.take(verified_notice(carried, chain_id=self.chain_id, params=self.params))
        if verdict.epoch != standing.epoch:
            raise InvalidVerdict(f"{where}: the epoch is {standing.epoch}")
        reports = evaluate(
            verdict,
            rounds,
            base=standing.base(verdict.height),
            touched=touched,
            chain_id=self.chain_id,
            params=self.params,
        )
        self.standing, self.epoch = standing, verdict.epoch
        self.height, self.hash = verdict.height, verdict_hash(signed.verdict)
        self._hashes[self.height] = self.hash
        return EvaluatedVerdict(verdict=verdict, hash=self.hash, reports=reports)
