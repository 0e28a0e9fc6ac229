"""What a rollup node says about itself, as messages."""

from collections.abc import Sequence

from nodes.model.errors import InvalidInput
from nodes.model.execution import LegOutcome, Status
from nodes.model.ids import HASH_BYTES, BundleHash, ChainId, Height, TxHash
from nodes.model.promises import OutcomeEvidence
from nodes.model.status import BlockHead, Heads, LegFate, RollupStatus
from nodes.wire.shapes import column, hash_of
from protos.lockstep.rollup.v1 import rollup_pb2 as pb


def heads_to_proto(heads: Heads) -> pb.Heads:
    """The three heads."""
    return pb.Heads(
        height=heads.height,
        latest=_head_to_proto(heads.latest),
        safe=_head_to_proto(heads.safe),
        finalized=_head_to_proto(heads.finalized),
    )


def heads_from_proto(message: pb.Heads) -> Heads:
    """The heads. Raises InvalidInput for a hash that is not 32 bytes."""
    return Heads(
        height=Height(message.height),
        latest=_head_from_proto(message.latest),
        safe=_head_from_proto(message.safe),
        finalized=_head_from_proto(message.finalized),
    )


def _head_to_proto(head: BlockHead) -> pb.BlockHead:
    return pb.BlockHead(number=head.number, hash=head.hash)


def _head_from_proto(message: pb.BlockHead) -> BlockHead:
    return BlockHead(number=message.number, hash=hash_of(message.hash, name="block hash"))


def rollup_status_to_proto(status: RollupStatus) -> pb.GetStatusResponse:
    """A snapshot."""
    return pb.GetStatusResponse(
        name=status.name,
        chain_id=status.chain_id,
        heads=heads_to_proto(status.heads),
        sequencer_height=status.sequencer_height,
        pending_transactions=status.pending_transactions,
        transactions=status.transactions,
        rpc_url=status.rpc_url,
        stalled=status.stalled,
    )


def rollup_status_from_proto(message: pb.GetStatusResponse) -> RollupStatus:
    """The snapshot. Raises InvalidInput for a hash that is not 32 bytes."""
    return RollupStatus(
        name=message.name,
        chain_id=ChainId(message.chain_id),
        heads=heads_from_proto(message.heads),
        sequencer_height=Height(message.sequencer_height),
        pending_transactions=message.pending_transactions,
        transactions=message.transactions,
        rpc_url=message.rpc_url,
        stalled=message.stalled,
    )


def block_hashes_to_proto(hashes: Sequence[bytes], *, first_number: int) -> pb.GetBlockHashesResponse:
    """Hashes of consecutive blocks."""
    return pb.GetBlockHashesResponse(first_number=first_number, hashes=b"".join(hashes))


def block_hashes_from_proto(message: pb.GetBlockHashesResponse) -> list[bytes]:
    """The hashes. Raises InvalidInput where the last one is cut."""
    return column(message.hashes, size=HASH_BYTES, name="hashes")


def bundle_fates_to_proto(fates: Sequence[LegFate]) -> pb.GetBundleResponse:
    """The fate of each leg that the rollup has met."""
    return pb.GetBundleResponse(
        legs=[
            pb.LegFate(
                leg_index=fate.leg_index,
                height=fate.height,
                tx_hash=fate.tx_hash,
                fate=fate.fate,
                reason=fate.reason,
                block_number=fate.block_number,
            )
            for fate in fates
        ]
    )


def bundle_fates_from_proto(message: pb.GetBundleResponse) -> list[LegFate]:
    """The fates. Raises InvalidInput for a hash that is not 32 bytes."""
    return [
        LegFate(
            leg_index=leg.leg_index,
            height=Height(leg.height),
            tx_hash=TxHash(hash_of(leg.tx_hash, name="tx_hash")),
            fate=leg.fate,
            reason=leg.reason,
            block_number=leg.block_number,
        )
        for leg in message.legs
    ]


def outcome_proofs_to_proto(proofs: Sequence[OutcomeEvidence]) -> pb.GetOutcomeProofResponse:
    """The proved fates of one leg."""
    return pb.GetOutcomeProofResponse(
        proofs=[
            pb.OutcomeProof(
                height=proof.outcome.height,
                status=proof.outcome.status,
                position=proof.position,
                siblings=proof.siblings,
                first_height=proof.first_height,
                last_height=proof.last_height,
            )
            for proof in proofs
        ]
    )


def outcome_proofs_from_proto(
    message: pb.GetOutcomeProofResponse, *, bundle_hash: bytes, leg_index: int
) -> list[OutcomeEvidence]:
    """The proved fates of the leg that was asked for. Raises InvalidInput for an unknown fate or a cut sibling."""
    known = {int(status): status for status in Status}
    proofs = []
    for proof in message.proofs:
        if proof.status not in known:
            raise InvalidInput(f"an outcome proof states status {proof.status}; this build knows {sorted(known)}")
        outcome = LegOutcome(BundleHash(bundle_hash), leg_index, Height(proof.height), known[proof.status])
        proofs.append(
            OutcomeEvidence(
                outcome=outcome,
                position=proof.position,
                siblings=tuple([hash_of(sibling, name="sibling") for sibling in proof.siblings]),
                first_height=Height(proof.first_height),
                last_height=Height(proof.last_height),
            )
        )
    return proofs
