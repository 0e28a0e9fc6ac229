"""Whether a certificate is taken: everything that can be checked before its exits and claims are.

Pure. Signatures, heights, roots and the stated range are checked here, at once and with a reason that says what to do;
trees and balances are the pessimistic program's, once the certificate's turn has come.
"""

from dataclasses import dataclass
from typing import NoReturn

from nodes.model.agglayer import (
    AgglayerParams,
    Certificate,
    CertificateHeader,
    CertificateHeight,
    CertificateId,
    CertificateStatus,
    EcdsaSignature,
    Multisig,
    NetworkId,
    NetworkParams,
    SettledRange,
)
from nodes.model.errors import CertificateRefused, InvalidVerdict, RefusalKind, UnknownName
from nodes.model.ids import ZERO_HASH, Height, hex_of
from nodes.model.proof_errors import MultisigError
from nodes.rules.certificate import (
    ChainData,
    certificate_commitment_v2,
    certificate_commitment_v3,
    check_multisig,
    commitment_v5,
    range_digest,
    unpack_chain_data,
)
from nodes.rules.claims import claims_commitment_v3
from nodes.rules.exit_tree import EMPTY_LER
from nodes.rules.signing import recover_digest
from nodes.rules.verdict import decode_verdict, verdict_digest, verdict_hash

NO_RANGE = SettledRange(
    first_height=Height(1),
    last_height=Height(0),
    last_block_hash=ZERO_HASH,
    outcome_root=ZERO_HASH,
    verdict_root=ZERO_HASH,
)
"""What stands on L1 before the first settlement."""
VERSIONS = "commitment V5 (or V3, V2 for a single signature)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tip:
    """What a certificate of a network must continue: the one at the height before, or nothing."""

    next_height: CertificateHeight
    local_exit_root: bytes
    settled_range: SettledRange


NOTHING = Tip(next_height=CertificateHeight(0), local_exit_root=EMPTY_LER, settled_range=NO_RANGE)
"""What the first certificate of a network continues."""


def check_height(certificate: Certificate, tip: Tip) -> None:
    """It is the network's next one and continues the exit tree. Raises CertificateRefused."""
    where = _where(certificate)
    if certificate.height != tip.next_height:
        _refuse(f"{where}: the next height of the network is {tip.next_height}; build it for that height")
    if certificate.prev_local_exit_root != tip.local_exit_root:
        _refuse(
            f"{where}: it continues local exit root {hex_of(certificate.prev_local_exit_root)}, but the certificate "
            f"before ends in {hex_of(tip.local_exit_root)}; build it on that root"
        )


def check_replaceable(certificate_id: CertificateId, standing: CertificateHeader, *, settlement: str) -> None:
    """Another certificate may take the place of `standing` only if that one is in error and is not on its way to L1.

    `settlement` says how the last settlement of the standing one ended: empty for none, `refused`, or anything else for
    one that may still succeed. Raises CertificateRefused.
    """
    place = f"certificate {standing.height} of network {standing.network_id}"
    reason = ""
    if standing.status is CertificateStatus.SETTLED:
        reason = "it has already been settled; build the next height"
    elif standing.status is not CertificateStatus.IN_ERROR:
        reason = f"it is not in error but {standing.status.name.lower()}; wait for its end"
    elif settlement not in {"", "refused"}:
        reason = "its settlement is still in flight; wait until L1 has refused it"
    if reason:
        raise CertificateRefused(
            f"{place} ({hex_of(standing.certificate_id)}) cannot be replaced by {hex_of(certificate_id)}: {reason}",
            kind=RefusalKind.UNABLE_TO_REPLACE_PENDING_CERTIFICATE,
            stored_certificate_id=hex_of(standing.certificate_id),
        )


def check_signature(
    certificate: Certificate, certificate_id: CertificateId, *, network: NetworkParams, params: AgglayerParams
) -> None:
    """Enough of the network's signers signed it. Raises CertificateRefused."""
    where, data = _where(certificate), certificate.aggchain_data
    # Not `certificate_commitment`: it would hash all exits and claims once more for the id.
    commitment = commitment_v5(
        new_local_exit_root=certificate.new_local_exit_root,
        claims_v3=claims_commitment_v3(certificate.imported_bridge_exits),
        height=certificate.height,
        certificate_id=certificate_id,
    )
    if isinstance(data, Multisig):
        try:
            check_multisig(
                signatures=data.signatures,
                signers=network.signers,
                threshold=params.signer_threshold,
                commitment=commitment,
            )
        except MultisigError as error:
            named, needed = ", ".join(map(hex_of, network.signers)), params.signer_threshold
            _refuse_signature(f"{where}: {error}; sign {VERSIONS} with {needed} of the keys of {named}")
        return
    assert isinstance(data, EcdsaSignature), "there are two kinds"
    count = len(network.signers)
    if count > 1:
        _refuse_signature(f"{where}: it has a single signature, but the network has {count} signers; use multisig")
    commitments = (commitment, certificate_commitment_v3(certificate), certificate_commitment_v2(certificate))
    signers = {recover_digest(digest, data.signature) for digest in commitments}
    if network.signer not in signers:
        found = ", ".join(sorted(hex_of(signer) for signer in signers if signer is not None)) or "nobody"
        _refuse_signature(
            f"{where}: the signature is {found}'s over {VERSIONS}, the registered signer is {hex_of(network.signer)}"
        )


def checked_range(
    certificate: Certificate,
    certificate_id: CertificateId,
    *,
    network: NetworkParams,
    params: AgglayerParams,
    previous: SettledRange,
    chain_id: bytes,
) -> SettledRange:
    """The range that the certificate states, or an empty one that keeps what stands. Raises CertificateRefused."""
    where = f"{_where(certificate)}, custom_chain_data"
    nothing = SettledRange(
        first_height=Height(previous.last_height + 1),
        last_height=previous.last_height,
        last_block_hash=previous.last_block_hash,
        outcome_root=previous.outcome_root,
        verdict_root=previous.verdict_root,
    )
    try:
        data = unpack_chain_data(certificate.custom_chain_data)
    except ValueError as error:
        _refuse(f"{where}: {error}")
    if data is None:
        return nothing
    settled = data.settled
    check_statement(where, data, certificate_id, network=network, params=params, chain_id=chain_id)
    if settled.first_height != previous.last_height + 1:
        _refuse(
            f"{where}: the range begins at height {settled.first_height}, the one before ends at "
            f"{previous.last_height}; ranges continue one another"
        )
    if settled.last_height < previous.last_height:
        _refuse(f"{where}: the range ends at height {settled.last_height}, before it begins")
    if settled.last_height == previous.last_height and settled != nothing:
        _refuse(f"{where}: an empty range states nothing, so its hashes must be those of the range before")
    return settled


def check_statement(
    where: str,
    data: ChainData,
    certificate_id: CertificateId,
    *,
    network: NetworkParams,
    params: AgglayerParams,
    chain_id: bytes,
) -> None:
    """Enough signers signed the range, the resolver its verdict. For the service and for attesters, who both judge.

    Raises CertificateRefused.
    """
    settled = data.settled
    try:
        check_multisig(
            signatures=data.range_signatures,
            signers=network.signers,
            threshold=params.signer_threshold,
            commitment=range_digest(certificate_id, settled),
        )
    except MultisigError as error:
        named, needed = ", ".join(map(hex_of, network.signers)), params.signer_threshold
        _refuse_signature(f"{where}: the range is not signed by {needed} of {named}: {error}")
    if settled.last_height < settled.first_height:
        return
    if params.has_verdicts:
        _check_verdict(where, data, params=params, chain_id=chain_id)
    elif data.verdict is not None or settled.verdict_root != ZERO_HASH:
        _refuse(f"{where}: a verdict is stated, but this testnet has none; leave it out and set its root to zero")


def _check_verdict(where: str, data: ChainData, *, params: AgglayerParams, chain_id: bytes) -> None:
    settled, signed = data.settled, data.verdict
    if signed is None:
        _refuse(f"{where}: the verdict of height {settled.last_height} is missing; append it with its signature")
    if recover_digest(verdict_digest(signed.verdict, chain_id=chain_id), signed.signature) != params.resolver:
        _refuse_signature(f"{where}: the verdict is not signed by the resolver {hex_of(params.resolver)}")
    if verdict_hash(signed.verdict) != settled.verdict_root:
        _refuse(f"{where}: the verdict root is not the hash of the verdict beside it")
    try:
        verdict = decode_verdict(signed.verdict)
    except InvalidVerdict as error:
        _refuse(f"{where}: {error}")
    if verdict.height != settled.last_height:
        _refuse(f"{where}: the verdict is of height {verdict.height}, the range ends at {settled.last_height}")


def network_of(params: AgglayerParams, network_id: NetworkId) -> NetworkParams:
    """A registered network. Raises UnknownName."""
    if not 1 <= network_id <= len(params.networks):
        raise UnknownName(
            kind="network", name=str(network_id), known=[str(network.network_id) for network in params.networks]
        )
    return params.networks[network_id - 1]


def _where(certificate: Certificate) -> str:
    return f"certificate {certificate.height} of network {certificate.network_id}"


def _refuse(message: str) -> NoReturn:
    raise CertificateRefused(message, kind=RefusalKind.INVALID_DATA)


def _refuse_signature(message: str) -> NoReturn:
    raise CertificateRefused(message, kind=RefusalKind.SIGNATURE_VERIFICATION)
