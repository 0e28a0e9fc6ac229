"""Builds the next certificate of a rollup from what its certifier keeps, and signs it. It sends nothing.

The range that a certificate states ends below the lowest height with a contingent mint whose import is in no
certificate. Such a mint can still be voided, and a settled range cannot be taken back. Exits are not cut by that: two
rollups that wait for one another's exits would wait for ever. What an exit needs is balance, and that is proven.

Money that a rollup has from its genesis is not proven: nothing on L1 stands behind it. An exit of it has no cover, and
since exits settle in the order of their leaves it holds up all later ones; `shortage` names it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from coincurve import PrivateKey

from nodes.model.agglayer import (
    BridgeExit,
    Certificate,
    CertificateHeight,
    CertificateId,
    ImportedBridgeExit,
    Multisig,
    NetworkId,
    SettledRange,
)
from nodes.model.ids import Height, hex_of
from nodes.ports import ClaimProofs
from nodes.rollup.certifier_store import CertificateRow, CertifierStore, KeptHeight, OpenImport
from nodes.rules.certificate import (
    certificate_commitment,
    certificate_id,
    pack_chain_data,
    range_digest,
    unpack_chain_data,
)
from nodes.rules.certifying import Balances, checked_imports, covered_exits, credit, missing_amount
from nodes.rules.exit_tree import ExitFrontier, leaf_hash
from nodes.rules.outcomes import outcome_root
from nodes.rules.pessimistic import moved_token
from nodes.rules.signing import sign_digest
from nodes.wire.certificate_messages import certificate_to_bytes
from nodes.wire.certificates import MAX_CLAIMS_PER_CALL

MAX_IMPORTS = MAX_CLAIMS_PER_CALL
"""Of one certificate, which is one question for proofs; a message of 32 MiB holds about 9,000 with their proofs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A certificate, and what it leaves behind."""

    certificate: Certificate
    row: CertificateRow
    imports: tuple[OpenImport, ...]
    balances: Balances
    frontier: ExitFrontier
    body: bytes
    """The certificate as it is kept."""

    def keep(self, store: CertifierStore) -> None:
        """Make it the newest one."""
        store.add_certificate(
            self.row,
            [entry.id for entry in self.imports],
            body=self.body,
            balances=self.balances,
            frontier=self.frontier,
        )


class CertificateBuilder:
    """Of one rollup."""

    def __init__(
        self, store: CertifierStore, *, network_id: NetworkId, signers: Sequence[PrivateKey], max_exits: int
    ) -> None:
        self._store = store
        self._network_id = network_id
        self._signers = tuple(signers)
        self._max_exits = max_exits
        self._flaws: list[tuple[int, str]] = []
        self.shortage = ""
        """Which exit has no cover, as of the last build, and nothing that is known will bring it; empty = none."""

    def wanted(self) -> list[OpenImport]:
        """The imports to ask proofs for."""
        return self._store.open_imports(MAX_IMPORTS)

    def build(self, wanted: Sequence[OpenImport], proofs: ClaimProofs | None) -> Built | None:
        """The next certificate; None where there is nothing to settle. It reads the store and writes nothing, so that
        it may run in a thread: 1,000 imports take half a second. `note_flaws` afterwards.
        """
        store, last = self._store, self._store.last_certificate()
        balances, frontier = store.standing()
        prev_local_exit_root = frontier.root()
        entries, imports = self._proven(wanted, proofs, balances)
        credit(balances, [entry.exit for entry in entries], network_id=self._network_id)
        waiting = store.exits(frontier.leaf_count, self._max_exits + 1)
        exits = [bridge_exit for _, bridge_exit in waiting]
        count = covered_exits(exits, balances, network_id=self._network_id, maximum=self._max_exits)
        self._note_shortage(frontier.leaf_count, waiting, count, balances, entries)
        # Heights count as covered only if all their exits are: the cut may lie inside one.
        first_height = Height(1 if last is None else last.last_height + 1)
        ends = [waiting[count][0]] if count < len(waiting) else []
        open_mint = store.first_open_mint([entry.id for entry in entries])
        kept = store.last_height_below(min(ends if open_mint is None else [*ends, open_mint], default=None))
        if kept is not None and kept.height < first_height:
            kept = None
        if kept is None and not count and not entries:
            return None
        for bridge_exit in exits[:count]:
            frontier.append(leaf_hash(bridge_exit))
        unsigned = Certificate(
            network_id=self._network_id,
            height=CertificateHeight(0 if last is None else last.height + 1),
            prev_local_exit_root=prev_local_exit_root,
            new_local_exit_root=frontier.root(),
            bridge_exits=tuple(exits[:count]),
            imported_bridge_exits=imports,
            l1_info_tree_leaf_count=proofs.l1_info_tree_leaf_count if proofs is not None and imports else None,
        )
        named = certificate_id(unsigned)
        certificate = self._signed(unsigned, named, first_height, kept)
        row = CertificateRow(
            certificate.height,
            named,
            first_height,
            Height(first_height - 1) if kept is None else kept.height,
            frontier.leaf_count,
        )
        return Built(
            certificate=certificate,
            row=row,
            imports=entries,
            balances=balances,
            frontier=frontier,
            body=certificate_to_bytes(certificate),
        )

    def note_flaws(self) -> None:
        """Keep which imports the last build found flawed."""
        if self._flaws:
            self._store.put_flaws(self._flaws)
            self._flaws = []

    def _proven(
        self, wanted: Sequence[OpenImport], proofs: ClaimProofs | None, balances: Balances
    ) -> tuple[tuple[OpenImport, ...], tuple[ImportedBridgeExit, ...]]:
        """Those whose claims hold. What others reported of them is not believed: one false import refuses them all."""
        claims = {} if proofs is None else proofs.claims
        entries = [entry for entry in wanted if entry.global_index in claims]
        imports = [
            ImportedBridgeExit(
                bridge_exit=entry.exit, claim=claims[entry.global_index], global_index=entry.global_index
            )
            for entry in entries
        ]
        checked = checked_imports(imports, balances, network_id=self._network_id)
        self._flaws = [(entries[at].id, flaw) for at, flaw in checked.flaws.items()]
        return tuple([entries[at] for at in checked.good]), tuple([imports[at] for at in checked.good])

    def _note_shortage(
        self,
        first_leaf: int,
        waiting: Sequence[tuple[Height, BridgeExit]],
        count: int,
        balances: Balances,
        entries: Sequence[OpenImport],
    ) -> None:
        self.shortage = ""
        if count >= min(len(waiting), self._max_exits):
            return
        height, bridge_exit = waiting[count]
        missing = missing_amount(bridge_exit, balances, self._store.expected([entry.id for entry in entries]))
        if missing:
            token = moved_token(bridge_exit)
            self.shortage = (
                f"exit {first_leaf + count} at height {height}, of {bridge_exit.amount} to network "
                f"{bridge_exit.dest_network}, lacks {missing} of token {hex_of(token.origin_token_address)} of network "
                f"{token.origin_network}, which no import brings: it and all later exits wait; bring the amount by a "
                "deposit (money of the genesis has no cover)"
            )

    def _signed(
        self, certificate: Certificate, named: CertificateId, first: Height, last: KeptHeight | None
    ) -> Certificate:
        """With its signature, and the range of heights that it speaks for; without `last` it states none."""
        chain_data = b""
        if last is not None:
            settled = SettledRange(
                first_height=first,
                last_height=last.height,
                last_block_hash=last.block_hash,
                outcome_root=outcome_root(self._store.outcomes(first, last.height)),
                verdict_root=last.verdict_root,
            )
            stated = range_digest(named, settled)
            range_signatures = [sign_digest(stated, signer) for signer in self._signers]
            chain_data = pack_chain_data(settled, range_signatures, last.verdict)
        digest = certificate_commitment(certificate, named=named)
        signatures = tuple(sign_digest(digest, signer) for signer in self._signers)
        return replace(certificate, aggchain_data=Multisig(signatures=signatures), custom_chain_data=chain_data)

    def standing(self, certificate: Certificate) -> Built | None:
        """A certificate of this rollup that stands at the aggregation layer, but was given up or lost here.

        None where it does not continue what stands here, or covers what is not (yet, or any more) kept here.
        """
        store, last = self._store, self._store.last_certificate()
        balances, frontier = store.standing()
        first_height = Height(1 if last is None else last.last_height + 1)
        last_height = Height(first_height - 1)
        waiting = [made for _, made in store.exits(frontier.leaf_count, len(certificate.bridge_exits))]
        if certificate.height != (0 if last is None else last.height + 1):
            return None
        if certificate.prev_local_exit_root != frontier.root() or len(waiting) != len(certificate.bridge_exits):
            return None
        for bridge_exit in waiting:
            frontier.append(leaf_hash(bridge_exit))
        found = [store.open_import(made.global_index, made.bridge_exit) for made in certificate.imported_bridge_exits]
        imports = tuple([entry for entry in found if entry is not None])
        if frontier.root() != certificate.new_local_exit_root or len(imports) != len(found):
            return None
        data = unpack_chain_data(certificate.custom_chain_data)
        if data is not None and data.settled.last_height >= first_height:
            last_height = data.settled.last_height
            kept = store.last_height_below(Height(last_height + 1))
            here = None if kept is None else (kept.height, kept.block_hash)
            legs = outcome_root(store.outcomes(first_height, last_height))
            if here != (last_height, data.settled.last_block_hash) or legs != data.settled.outcome_root:
                return None
        credit(balances, [entry.exit for entry in imports], network_id=self._network_id)
        covered = covered_exits(waiting, balances, network_id=self._network_id, maximum=len(waiting))
        if covered != len(waiting):
            return None
        row = CertificateRow(
            certificate.height, certificate_id(certificate), first_height, last_height, frontier.leaf_count
        )
        return Built(
            certificate=certificate,
            row=row,
            imports=imports,
            balances=balances,
            frontier=frontier,
            body=certificate_to_bytes(certificate),
        )
