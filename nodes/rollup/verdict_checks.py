"""Checks of what a mailbox hands out: signatures, rounds, verdicts. Pure.

The resolver is trusted for agreement, not for correctness: what it hands out counts only if the reports in it give just
that. The rules for it are `nodes.rules.evaluation`; here every complaint gets the name of who must have signed
something false. Which height is next is `speculation`'s matter.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from nodes.model.agglayer import AgglayerParams, NetworkId
from nodes.model.errors import InvalidVerdict
from nodes.model.execution import AdmittedBundle
from nodes.model.ids import Height, RollupId
from nodes.model.verdict import AbortSet, Notice, Report, SignedNotice, SignedReport, Verdict, VerdictSigned
from nodes.rules.evaluation import aborts_after_round, evaluate, foreign_strikes, verified_notice, verified_verdict
from nodes.rules.verdict import decode_report


class Contradiction(Exception):
    """Somebody signed what cannot be: `accused` in words, and what it is."""

    def __init__(self, accused: str, detail: str) -> None:
        super().__init__(f"{accused}: {detail}")
        self.accused = accused
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """A verdict that holds."""

    verdict: Verdict
    last: tuple[Report, ...]
    """The reports of its last round; empty where none were awaited."""


class VerdictChecks:
    """The checks of one testnet. Every method raises Contradiction."""

    def __init__(self, params: AgglayerParams, *, chain_id: bytes) -> None:
        """`chain_id` is the sequencer's."""
        self._params = params
        self._chain_id = chain_id

    def notice(self, signed: SignedNotice) -> Notice:
        """The notice, if the resolver signed it."""
        try:
            return verified_notice(signed, chain_id=self._chain_id, params=self._params)
        except InvalidVerdict as error:
            raise Contradiction("resolver", str(error)) from error

    def verdict(self, event: VerdictSigned) -> Verdict:
        """The verdict of an event, if the resolver signed it; nothing else of it is checked."""
        try:
            return verified_verdict(event.signed, chain_id=self._chain_id, params=self._params)
        except InvalidVerdict as error:
            raise Contradiction("resolver", str(error)) from error

    def evaluate(
        self,
        verdict: Verdict,
        rounds: Sequence[Sequence[SignedReport]],
        *,
        previous: bytes,
        base: AbortSet,
        touched: Iterable[RollupId],
    ) -> Evaluated:
        """The verdict, if the reports of all rounds give exactly this one.

        `base` is S_0, `previous` the hash of the verdict before, `touched` this reader's own knowledge.
        """
        if verdict.previous != previous:
            raise Contradiction(
                "resolver",
                f"the verdict of height {verdict.height} follows {verdict.previous.hex()}, not {previous.hex()}",
            )
        try:
            last = evaluate(verdict, rounds, base=base, touched=touched, chain_id=self._chain_id, params=self._params)
        except InvalidVerdict as error:
            raise Contradiction("resolver", str(error)) from error
        return Evaluated(verdict=verdict, last=last)

    def foreign_strikes(
        self, verdict: Verdict, rounds: Sequence[Sequence[SignedReport]], bundles: Collection[AdmittedBundle]
    ) -> list[Contradiction]:
        """Who had one of this reader's `bundles` aborted without having a leg in it. The verdict holds all the same."""
        struck = {abort.bundle_hash for abort in verdict.aborts.aborts}
        own = [bundle for bundle in bundles if bundle.bundle_hash in struck]
        if not own:
            return []
        names = {network.network_id: network.name for network in self._params.networks}
        read = [[decode_report(signed.report) for signed in reports] for reports in rounds]
        return [
            Contradiction(
                f"the reporter of {names[network]} (network {network})",
                f"height {verdict.height}, epoch {verdict.epoch}: it reported a failure of bundle {bundle.hex()}, in "
                "which it has no leg, and had it aborted",
            )
            for network, bundle in foreign_strikes(read, own, params=self._params)
        ]

    def next_of_round(
        self,
        signed: Sequence[SignedReport],
        *,
        epoch: int,
        height: Height,
        aborts: AbortSet,
        round_number: int,
        awaited: Collection[NetworkId],
    ) -> AbortSet:
        """The set of the round after one that was closed, in which everybody executed without `aborts`."""
        try:
            return aborts_after_round(
                signed,
                aborts,
                epoch=epoch,
                height=height,
                round_number=round_number,
                awaited=awaited,
                chain_id=self._chain_id,
                params=self._params,
            )
        except InvalidVerdict as error:
            raise Contradiction("resolver", str(error)) from error
