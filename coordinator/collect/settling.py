"""How far bundles came after their execution: atomic-safe, proved, settled, final; and the life of every certificate.

A bundle has a stage when all of it has: on every rollup that it touches the height is resolved, or lies in the range of
a certificate that got so far, and every contingent mint of it was imported by such a certificate.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from coordinator.collect.join import NEVER, OUTCOMES, BundleFates, Ints, SentBundles
from coordinator.collect.node_trace import NodeTrace
from nodes.model.agglayer import CertificateStatus
from nodes.model.ids import HASH_BYTES, BundleHash
from nodes.telemetry.events import CertificateBuilt, CertificateMoved, SettlementMoved

_STAGE_OF = {
    CertificateStatus.PENDING: "pending",
    CertificateStatus.PROVEN: "proven",
    CertificateStatus.CANDIDATE: "candidate",
    CertificateStatus.SETTLED: "settled",
}


BUILT, GIVEN_UP = "built", "given_up"
"""Of a certificate that the aggregation layer has not taken (yet), and of one whose rollup built another instead."""


class BundleStages(NamedTuple):
    """Times by bundle, `NEVER` where a bundle did not come so far; None for a stage that the run's mode lacks."""

    atomic_safe: Ints | None
    proved: Ints | None
    settled: Ints | None
    final: Ints | None


NO_STAGES = BundleStages(None, None, None, None)


@dataclass(slots=True, kw_only=True)
class CertificateLife:
    """One certificate, from what its rollup and the aggregation layer traced."""

    network_id: int
    certificate_height: int
    certificate_id: bytes
    first_height: int
    last_height: int
    exits: int = 0
    imports: int = 0
    imported_bundles: tuple[BundleHash, ...] = ()
    times_ns: dict[str, int] = field(default_factory=dict)
    """built, pending, proven, candidate, settled, final: the first time, on the coordinator's clock."""
    status: str = BUILT
    error: str = ""
    settlement_tx: bytes = b""

    @property
    def stands(self) -> bool:
        """Neither refused nor given up; it settles, or may yet."""
        return self.status not in ("in_error", GIVEN_UP)


def certificate_lives(
    rollups: Iterable[NodeTrace], agglayers: Iterable[NodeTrace], offsets_ns: Mapping[str, int]
) -> list[CertificateLife]:
    """Every certificate that was built or moved, by network and then in the order in which they became known."""
    lives: dict[bytes, CertificateLife] = {}
    newest: dict[tuple[int, int], CertificateLife] = {}
    for trace in rollups:
        for at_ns, built in trace.of(CertificateBuilt):
            life = lives.setdefault(built.certificate_id, _life(built))
            newest[built.network_id, built.certificate_height] = life
            life.exits, life.imports, life.imported_bundles = built.exits, built.imports, built.imported_bundles
            life.times_ns.setdefault("built", at_ns + offsets_ns.get(trace.node, 0))
    for trace in agglayers:
        offset_ns = offsets_ns.get(trace.node, 0)
        for at_ns, moved in trace.of(CertificateMoved):
            life = lives.setdefault(moved.certificate_id, _life(moved))
            stage = _STAGE_OF.get(moved.status)
            life.status, life.error = moved.status.name.lower(), moved.error
            if stage is not None:
                life.times_ns.setdefault(stage, at_ns + offset_ns)
        for at_ns, settlement in trace.of(SettlementMoved):
            for certificate_id in settlement.certificate_ids:
                if certificate_id in lives:
                    _settle(lives[certificate_id], settlement, at_ns + offset_ns)
    for life in lives.values():
        if life.status == BUILT and newest[life.network_id, life.certificate_height] is not life:
            # Refused when it was handed in, as while another stood in its place.
            life.status = GIVEN_UP
    return sorted(lives.values(), key=lambda life: (life.network_id, life.certificate_height))


def _life(event: CertificateBuilt | CertificateMoved) -> CertificateLife:
    return CertificateLife(
        network_id=event.network_id,
        certificate_height=event.certificate_height,
        certificate_id=event.certificate_id,
        first_height=event.first_height,
        last_height=event.last_height,
    )


def _settle(life: CertificateLife, settlement: SettlementMoved, at_ns: int) -> None:
    if settlement.step in ("sent", "included", "final"):
        life.settlement_tx = settlement.tx_hash
    if settlement.step == "final":
        final_ns = life.times_ns.setdefault("final", at_ns)
        # The service notes that a certificate is settled when it comes to it; the settler beside it may be further.
        life.times_ns["settled"] = min(life.times_ns.get("settled", final_ns), final_ns)
    elif settlement.step == "reorged":
        # What was settled is not, until the transaction is in another block.
        life.times_ns.pop("final", None)


def bundle_stages(
    sent: SentBundles,
    fates: BundleFates,
    primaries: Sequence[NodeTrace],
    lives: Sequence[CertificateLife],
    *,
    mints: Iterable[int],
    has_verdicts: bool,
    settles: bool,
    offsets_ns: Mapping[str, int],
) -> BundleStages:
    """Stages of every bundle; those of aborted ones are `NEVER`. `primaries` in the order of rollup indexes.

    `mints`: indexes of the legs that mint contingently.
    """
    stood = np.isin(fates.outcome, [OUTCOMES.index(name) for name in ("succeeded", "partly", "reverted", "skipped")])
    counted = stood & (fates.height >= 0) & (fates.executed_ns >= 0)
    atomic = None
    if has_verdicts:
        atomic = np.where(counted, _resolved(sent, fates.height, primaries, offsets_ns), NEVER)
    if not settles:
        return BundleStages(atomic, None, None, None)
    standing = [life for life in lives if life.stands]
    # Without verdicts nothing matches a mint with its exit, and no certificate imports it.
    imports = _Imports(sent, standing, tuple(mints) if has_verdicts else ())
    stages = []
    for stage in ("proven", "settled", "final"):
        covered = _covered(sent, fates.height, standing, stage)
        stages.append(np.where(counted, _latest(covered, imports.times(stage)), NEVER))
    return BundleStages(atomic, *stages)


def _resolved(sent: SentBundles, heights: Ints, primaries: Sequence[NodeTrace], offsets_ns: Mapping[str, int]) -> Ints:
    """When the last rollup of each bundle took the verdict of the bundle's height."""
    times = np.zeros(sent.rollups.shape, dtype=np.int64)
    for index, trace in enumerate(primaries):
        known = {
            height: verdict.at_ns + offsets_ns.get(trace.node, 0)
            for height, verdict in trace.resolved.items()
            # A verdict that was replaced by that of a new epoch says nothing of the block that stands.
            if height in trace.executed and trace.executed[height].hash == verdict.block_hash
        }
        mine = sent.rollups == index
        at = _lookup(known, heights)
        times[mine] = np.broadcast_to(at[:, None], times.shape)[mine]
    return np.where((times == NEVER).any(axis=1), NEVER, times.max(axis=1))


def _lookup(known: Mapping[int, int], heights: Ints) -> Ints:
    if not known:
        return np.full(len(heights), NEVER)
    keys = np.array(sorted(known), dtype=np.int64)
    values = np.array([known[int(key)] for key in keys], dtype=np.int64)
    place = np.minimum(np.searchsorted(keys, heights), len(keys) - 1)
    return np.where(keys[place] == heights, values[place], NEVER)


def _covered(sent: SentBundles, heights: Ints, lives: Sequence[CertificateLife], stage: str) -> Ints:
    """When the last rollup of each bundle had a certificate at that stage whose range holds the bundle's height."""
    times = np.zeros(sent.rollups.shape, dtype=np.int64)
    for index in range(int(sent.rollups.max()) + 1 if sent.rollups.size else 0):
        ranges = sorted(
            (life.last_height, life.first_height, life.times_ns[stage])
            for life in lives
            if life.network_id == index + 1 and stage in life.times_ns and life.last_height >= life.first_height
        )
        at = np.full(len(heights), NEVER)
        if ranges:
            last, first, when = (np.array(column, dtype=np.int64) for column in zip(*ranges, strict=True))
            place = np.minimum(np.searchsorted(last, heights), len(last) - 1)
            at = np.where((first[place] <= heights) & (heights <= last[place]), when[place], NEVER)
        mine = sent.rollups == index
        times[mine] = np.broadcast_to(at[:, None], times.shape)[mine]
    return np.where((times == NEVER).any(axis=1), NEVER, times.max(axis=1))


class _Imports:
    """Which certificates import the exits that a bundle's mints stand for."""

    def __init__(self, sent: SentBundles, lives: Sequence[CertificateLife], mints: Sequence[int]) -> None:
        self._lives = lives
        self._sent = sent
        found: dict[tuple[int, bytes], list[int]] = {}
        for place, life in enumerate(lives):
            for bundle_hash in life.imported_bundles:
                found.setdefault((life.network_id, bundle_hash), []).append(place)
        self._places: list[list[int] | None] = []
        """By bundle its certificates, None where one is missing."""
        hashes, rollups = sent.bundle_hashes, sent.rollups[:, list(mints)].tolist()
        for bundle, networks in enumerate(rollups):
            own = hashes[HASH_BYTES * bundle : HASH_BYTES * (bundle + 1)]
            places: list[int] | None = []
            for network in set(networks):
                made = found.get((network + 1, own), [])[: networks.count(network)]
                whole = len(made) == networks.count(network)
                places = [*places, *made] if places is not None and whole else None
            self._places.append(places)

    def times(self, stage: str) -> Ints:
        """When the last of them came to the stage; 0 for a bundle without mints."""
        at = [life.times_ns.get(stage) for life in self._lives]
        result = np.zeros(len(self._sent), dtype=np.int64)
        for bundle, places in enumerate(self._places):
            if places:
                reached = [at[place] for place in places]
                result[bundle] = NEVER if None in reached else max(time for time in reached if time is not None)
            elif places is None:
                result[bundle] = NEVER
        return result


def _latest(first: Ints, second: Ints) -> Ints:
    return np.where((first == NEVER) | (second == NEVER), NEVER, np.maximum(first, second))
