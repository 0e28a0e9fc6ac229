"""Which bundles of a batch succeed as a whole: the verdict rule, applied to simulations before anything is ordered.

Pure: it says what to simulate and takes the results; `nodes.agglayer.builder_simulation` simulates. The rule is that of
a height (`nodes.rules.verdict.next_aborts`): in the first rounds the failing bundle of lowest ordinal is struck and the
rest simulated again. What is struck later together with others may have failed only because of them, so it is not
refused but put off to the next batch.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from nodes.agglayer.builder_offers import Offer, OfferedLeg
from nodes.model.agglayer import AgglayerParams, NetworkId
from nodes.model.execution import Status
from nodes.model.ids import ZERO_HASH, BundleHash, Height
from nodes.model.verdict import NO_ABORTS, AbortSet, FailureKind, LegExit, LegFailure, LegMint, Report
from nodes.rules.verdict import next_aborts, unmatched_mints

ROUNDS_TOGETHER = 16
"""Rounds in which all failing bundles are struck; if some fail even then, all that is left is put off."""
_KINDS = {Status.REVERTED: FailureKind.REVERTED, Status.SKIPPED: FailureKind.SKIPPED}


class LegResult(NamedTuple):
    """What a simulation made of one leg."""

    status: Status
    """SUCCEEDED, REVERTED or SKIPPED."""
    reason: str = ""
    """For people; empty where it succeeded."""
    exits: tuple[bytes, ...] = ()
    """Leaves that it burnt for."""
    mints: tuple[tuple[NetworkId, bytes], ...] = ()
    """Source network and leaf of its contingent mints."""


class PlannedLeg(NamedTuple):
    """One leg to simulate, in its place."""

    ordinal: int
    leg_index: int
    leg: OfferedLeg
    is_burnt: bool
    """Its nonce advances and nothing else happens."""
    can_fail: bool
    """Its failure strikes its bundle; otherwise the simulation goes on behind it."""


class Ordered(NamedTuple):
    """A bundle that was ordered before and is not wholly executed yet."""

    offer: Offer
    done: int
    """Bit `i`: leg `i` is executed, or can no longer be."""


class Judging:
    """One batch, behind the bundles that were ordered before and are not executed yet.

    Simulate every network of `stale` and hand the results to `take`; then ask `is_done`, and again.
    """

    def __init__(
        self,
        before: Sequence[Ordered],
        batch: Sequence[Offer],
        *,
        params: AgglayerParams,
        names: Mapping[NetworkId, str],
    ) -> None:
        """`names` of the networks, for reasons."""
        # Strikes one by one, whatever the testnet does: a refusal should be a bundle's own fault.
        self._params = replace(params, abort_rule="serial")
        self._names = names
        self._before = len(before)
        self._done = [ordered.done for ordered in before]
        self._offers = (*(ordered.offer for ordered in before), *batch)
        self._batch = tuple(batch)
        self._aborts: AbortSet = NO_ABORTS
        self._struck: dict[BundleHash, int] = {}
        self._results: dict[NetworkId, list[tuple[PlannedLeg, LegResult | None]]] = {}
        self.stale: set[NetworkId] = {leg.network_id for offer in batch for leg in offer.legs}
        """Networks to simulate."""
        self._networks = frozenset(self.stale)
        self.rounds = 0
        self.refused: dict[BundleHash, str] = {}
        self.put_off: set[BundleHash] = set()

    @property
    def ordered(self) -> list[Offer]:
        """Bundles of the batch that succeed, in order."""
        gone = self.refused.keys() | self.put_off
        return [offer for offer in self._batch if offer.bundle_hash not in gone]

    def plan(self, network_id: NetworkId) -> list[PlannedLeg]:
        """What to simulate on a network, in the order in which it will be executed."""
        planned = []
        for ordinal, offer in enumerate(self._offers):
            removed = self._struck.get(offer.bundle_hash)
            is_before = ordinal < self._before
            if removed is not None and not is_before:
                continue
            left_out = (removed or 0) | (self._done[ordinal] if is_before else 0)
            can_fail = removed is None and self._is_judged(ordinal)
            for leg_index, leg in enumerate(offer.legs):
                if leg.network_id != network_id or left_out >> leg_index & 1:
                    continue
                planned.append(PlannedLeg(ordinal, leg_index, leg, removed is not None, can_fail))
        return planned

    def _is_judged(self, ordinal: int) -> bool:
        """A failure strikes the bundle: here, or, where it is ordered already, in the verdict of its height.

        Of the latter only one that is simulated whole: a mint whose burn is not simulated would seem unmatched.
        """
        offer = self._offers[ordinal]
        if offer.is_plain or ordinal >= self._before:
            return not offer.is_plain
        is_whole = not self._done[ordinal] and all(leg.network_id in self._networks for leg in offer.legs)
        return self._params.has_verdicts and is_whole

    def take(self, network_id: NetworkId, planned: Sequence[PlannedLeg], results: Sequence[LegResult | None]) -> None:
        """The simulation of one network. None for legs that were not reached, because one before them could not be
        simulated, which is then reported as failed.
        """
        self._results[network_id] = list(zip(planned, results, strict=True))
        self.stale.discard(network_id)

    def is_done(self) -> bool:
        """Take the next step of the rule; True where every bundle of `ordered` succeeds."""
        assert not self.stale, "simulate what is stale first"
        reports = self._reports()
        found = next_aborts(self._aborts, reports, round_number=self.rounds, params=self._params)
        if found is None:
            return True
        if self.rounds >= self._params.serial_rounds + ROUNDS_TOGETHER:
            self.put_off |= {offer.bundle_hash for offer in self.ordered}
            return True
        known = set(self._aborts.aborts)
        reasons = self._reasons(reports)
        for abort in found.aborts:
            if abort in known:
                continue
            self._struck[abort.bundle_hash] = abort.removed
            offer = self._offers[abort.ordinal]
            self.stale |= {leg.network_id for leg in offer.legs} & self._results.keys()
            if abort.ordinal < self._before:
                continue
            if abort.struck_together:
                self.put_off.add(abort.bundle_hash)
            else:
                self.refused[abort.bundle_hash] = reasons[abort.bundle_hash]
        self._aborts = found
        self.rounds += 1
        return False

    def _reports(self) -> list[Report]:
        return [self._report(network, results) for network, results in self._results.items()]

    def _report(self, network_id: NetworkId, results: Sequence[tuple[PlannedLeg, LegResult | None]]) -> Report:
        failures, exits, mints = [], [], []
        leaf_counts: dict[bytes, int] = defaultdict(int)
        for planned, result in results:
            if result is None or not planned.can_fail:
                continue
            named = (planned.ordinal, self._offers[planned.ordinal].bundle_hash, planned.leg_index)
            kind = _KINDS.get(result.status)
            if kind is not None:
                failures.append(LegFailure(*named, kind))
            for leaf in result.exits:
                exits.append(LegExit(*named, leaf, leaf_counts[leaf]))
                leaf_counts[leaf] += 1
            mints += [LegMint(*named, source, leaf) for source, leaf in result.mints]
        return Report(
            epoch=0,
            height=Height(0),
            network_id=network_id,
            aborts_hash=ZERO_HASH,
            parent_hash=ZERO_HASH,
            block_hash=ZERO_HASH,
            failures=tuple(failures),
            exits=tuple(exits),
            mints=tuple(mints),
        )

    def _reasons(self, reports: Sequence[Report]) -> dict[BundleHash, str]:
        """Of each failing bundle why: its first failed leg, or a mint that nothing stands behind."""
        reasons: dict[BundleHash, tuple[int, str]] = {}
        for network, results in self._results.items():
            for planned, result in results:
                if result is None or not planned.can_fail or result.status is Status.SUCCEEDED:
                    continue
                verb = "reverts" if result.status is Status.REVERTED else "cannot execute"
                text = f"leg {planned.leg_index} on {self._names[network]} {verb}: {result.reason}"
                bundle = self._offers[planned.ordinal].bundle_hash
                if bundle not in reasons or planned.leg_index < reasons[bundle][0]:
                    reasons[bundle] = (planned.leg_index, text)
        for mint in unmatched_mints(reports):
            source = self._names.get(mint.source_network, f"network {mint.source_network}")
            text = f"leg {mint.leg_index} mints what no leg of the bundle burns on {source}"
            reasons.setdefault(mint.bundle_hash, (mint.leg_index, text))
        return {bundle: text for bundle, (_, text) in reasons.items()}
