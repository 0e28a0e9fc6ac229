"""From a certificate and the trees before it to what a prover is given and what L1 will be told. Pure.

The statement is computed from the trees, not by the program: a prover whose public values differ from it has proved
something else.
"""

from dataclasses import dataclass

from nodes.agglayer.batch import SettlementItem
from nodes.agglayer.lane import items_of
from nodes.agglayer.store import TreeItems
from nodes.model.agglayer import AgglayerParams, Certificate, CertificateHeight, NetworkParams, SettledRange
from nodes.ports import ProvingItem
from nodes.rules.certificate import aggchain_hash, statement_bytes, unpack_chain_data
from nodes.rules.exit_tree import zero_if_empty
from nodes.rules.network_trees import NetworkTrees, witness
from nodes.rules.pessimistic import (
    Committee,
    PublicValues,
    RootVersion,
    encode_public_values,
    pessimistic_root,
    signed_version,
)
from nodes.rules.program_encoding import encode_program


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """A certificate that is ready for a prover."""

    proving: ProvingItem
    settlement: SettlementItem
    after: NetworkTrees
    items: TreeItems


def stage(
    certificate: Certificate,
    settled_range: SettledRange,
    *,
    network: NetworkParams,
    params: AgglayerParams,
    trees: NetworkTrees,
    prev_pessimistic_root: bytes,
    l1_info_tree_leaf_count: int,
    l1_info_root: bytes,
) -> Staged:
    """Witness, statement and the trees afterwards. Raises a Refusal."""
    signers = network.signers
    program, after = witness(
        trees,
        certificate,
        prev_pessimistic_root=prev_pessimistic_root,
        l1_info_root=l1_info_root,
        signers=signers,
        threshold=params.signer_threshold,
    )
    version = RootVersion.V3
    if not isinstance(program.authorization, Committee):  # committees sign V5 only
        version = signed_version(program, certificate.new_local_exit_root)
    new_pessimistic_root = pessimistic_root(
        after.state, version=version, height=certificate.height + 1, network_id=certificate.network_id
    )
    values = PublicValues(
        prev_local_exit_root=zero_if_empty(certificate.prev_local_exit_root),
        prev_pessimistic_root=prev_pessimistic_root,
        l1_info_root=l1_info_root,
        network_id=certificate.network_id,
        aggchain_hash=aggchain_hash(signers, params.signer_threshold),
        new_local_exit_root=zero_if_empty(certificate.new_local_exit_root),
        new_pessimistic_root=new_pessimistic_root,
    )
    stated = unpack_chain_data(certificate.custom_chain_data)
    verdict = None if stated is None else stated.verdict
    return Staged(
        proving=ProvingItem(
            program_input=encode_program(program),
            settled_range=settled_range,
            range_signatures=() if stated is None else stated.range_signatures,
            signed_verdict=b"" if verdict is None else verdict.signature + verdict.verdict,
        ),
        settlement=SettlementItem(
            network_id=certificate.network_id,
            certificate_height=CertificateHeight(certificate.height),
            certificate_id=program.certificate_id,
            l1_info_tree_leaf_count=l1_info_tree_leaf_count,
            new_local_exit_root=certificate.new_local_exit_root,
            new_pessimistic_root=new_pessimistic_root,
            settled_range=settled_range,
            statement=statement_bytes(encode_public_values(values), settled_range),
        ),
        after=after,
        items=items_of(certificate, trees, after),
    )
