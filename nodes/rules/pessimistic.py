"""The pessimistic program: from the state of a network and a certificate to 196 bytes of public values, or a refusal.

It runs natively what AggLayer's prover runs in a virtual machine, step by step in the same order, so that the first
error is the same one. It knows only what it is given: no trees (a witness replaces them, `nodes.rules.network_trees`),
no L1, no settled ranges. Source: agglayer/agglayer `pessimistic-proof-core`, program 14 (commitment V5, root V3).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from nodes.model.agglayer import (
    ETH,
    MAINNET,
    BridgeExit,
    CertificateHeight,
    CertificateId,
    ImportedBridgeExit,
    LeafType,
    NetworkId,
    NetworkState,
    TokenInfo,
)
from nodes.model.ids import ZERO_HASH, Address
from nodes.model.proof_errors import (
    BalanceOverflowInBridgeExit,
    BalanceUnderflowInBridgeExit,
    BridgeError,
    CannotExitToSameNetwork,
    DuplicateTokenBalanceProof,
    ExitTreeError,
    HeightOverflow,
    InconsistentSignedPayload,
    InvalidBalancePath,
    InvalidExitNetwork,
    InvalidImportedBridgeExit,
    InvalidL1TokenInfo,
    InvalidLocalExitTreeOperation,
    InvalidMessageOriginNetwork,
    InvalidMultisig,
    InvalidNullifierPath,
    InvalidPreviousPessimisticRoot,
    InvalidSignature,
    MissingTokenBalanceProof,
    MultisigError,
)
from nodes.rules.certificate import (
    PUBLIC_VALUES_BYTES,
    aggchain_hash,
    check_multisig,
    commitment_v2,
    commitment_v3,
    commitment_v5,
)
from nodes.rules.claims import KnownNodes, check_claim, claims_commitment_v2, claims_commitment_v3
from nodes.rules.exit_tree import ExitFrontier, leaf_hash, zero_if_empty
from nodes.rules.hashes import keccak256
from nodes.rules.signing import recover_digest
from nodes.rules.sparse_tree import (
    BALANCE_DEPTH,
    NULLIFIER_DEPTH,
    NULLIFIER_SET,
    balance_path,
    empty_roots,
    keccak_pair,
    nullifier_path,
)

U256_LIMIT = 2**256
_U64_MAX = 2**64 - 1
_EMPTY_NULLIFIERS = empty_roots(keccak_pair, NULLIFIER_DEPTH)


class RootVersion(IntEnum):
    """Versions of the pessimistic root that L1 may have settled."""

    V2 = 2
    V3 = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceWitness:
    """A token's balance before the certificate, and its place in the tree as the witnesses before leave it."""

    token: TokenInfo
    balance: int
    siblings: tuple[bytes, ...]
    """192, bottom-up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleSigner:
    """A certificate signed by one key, in any version of the commitment."""

    signer: Address
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Committee:
    """A certificate signed by several keys, in commitment V5; signature `i` is signer `i`'s or absent."""

    signatures: tuple[bytes | None, ...]
    signers: tuple[Address, ...]
    threshold: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramInput:
    """Everything the program is given. All of it is free for the host to choose; `run` believes none of it."""

    state: NetworkState
    network_id: NetworkId
    height: CertificateHeight
    prev_pessimistic_root: bytes
    """As L1 has it: zero for a network that has settled nothing."""
    l1_info_root: bytes
    bridge_exits: tuple[BridgeExit, ...]
    imported_bridge_exits: tuple[ImportedBridgeExit, ...]
    nullifier_siblings: tuple[tuple[bytes, ...], ...]
    """For each import the proof that it was not claimed before, root first, up to 64."""
    balances: tuple[BalanceWitness, ...]
    """Ascending by token."""
    authorization: SingleSigner | Committee
    certificate_id: CertificateId


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicValues:
    """What L1 is told; it builds the same bytes from its own storage. Local exit roots are zero where empty."""

    prev_local_exit_root: bytes
    prev_pessimistic_root: bytes
    l1_info_root: bytes
    network_id: NetworkId
    aggchain_hash: bytes
    new_local_exit_root: bytes
    new_pessimistic_root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramOutput:
    """What a successful run proves, and the state that the next certificate starts from."""

    public_values: PublicValues
    new_state: NetworkState
    root_version: RootVersion


def encode_public_values(values: PublicValues) -> bytes:
    """196 bytes, as L1 packs them."""
    parts = (
        values.prev_local_exit_root,
        values.prev_pessimistic_root,
        values.l1_info_root,
        values.network_id.to_bytes(4, "big"),
        values.aggchain_hash,
        values.new_local_exit_root,
        values.new_pessimistic_root,
    )
    return b"".join(parts)


def decode_public_values(data: bytes) -> PublicValues:
    """The inverse of `encode_public_values`. Raises ValueError unless there are 196 bytes."""
    if len(data) != PUBLIC_VALUES_BYTES:
        raise ValueError(f"public values have {PUBLIC_VALUES_BYTES} bytes, not {len(data)}")
    return PublicValues(
        prev_local_exit_root=data[:32],
        prev_pessimistic_root=data[32:64],
        l1_info_root=data[64:96],
        network_id=NetworkId(int.from_bytes(data[96:100], "big")),
        aggchain_hash=data[100:132],
        new_local_exit_root=data[132:164],
        new_pessimistic_root=data[164:],
    )


def pessimistic_root(state: NetworkState, *, version: RootVersion, height: int, network_id: NetworkId) -> bytes:
    """Commits to the state of a network. `height` is that of the next certificate; V2 leaves it and the network out."""
    committed = state.balance_root + state.nullifier_root + state.leaf_count.to_bytes(4, "little")
    if version is RootVersion.V3:
        committed += height.to_bytes(8, "little") + network_id.to_bytes(4, "little")
    return keccak256(committed)


EMPTY_STATE = NetworkState(
    leaf_count=0,
    frontier=ExitFrontier().nodes,
    balance_root=empty_roots(keccak_pair, BALANCE_DEPTH)[BALANCE_DEPTH],
    nullifier_root=_EMPTY_NULLIFIERS[NULLIFIER_DEPTH],
)
"""State of a network that has settled nothing."""
EMPTY_PESSIMISTIC_ROOT_V2 = pessimistic_root(EMPTY_STATE, version=RootVersion.V2, height=0, network_id=MAINNET)


def moved_token(bridge_exit: BridgeExit) -> TokenInfo:
    """The token whose balance an exit changes: a message moves ether, whatever token it names."""
    return ETH if bridge_exit.leaf_type == LeafType.MESSAGE else bridge_exit.token


def run(program: ProgramInput) -> ProgramOutput:
    """Execute the program. Raises the first ProofError."""
    state, known = program.state, KnownNodes()
    frontier = ExitFrontier(state.leaf_count, state.frontier)
    prev_local_exit_root = frontier.root()
    balances = _witnessed_balances(program.balances)
    nullifier_root = _import_exits(program, balances, known)
    _export_exits(program, balances, frontier)
    balance_root = _settle_balances(program, balances, known)
    new_local_exit_root = frontier.root()
    new_state = NetworkState(frontier.leaf_count, frontier.nodes, balance_root, nullifier_root)
    settled = _settled_version(program)
    target = signed_version(program, new_local_exit_root)
    if settled > target:
        raise InconsistentSignedPayload()
    if program.height >= _U64_MAX:
        raise HeightOverflow()
    network_id = program.network_id
    values = PublicValues(
        prev_local_exit_root=zero_if_empty(prev_local_exit_root),
        prev_pessimistic_root=program.prev_pessimistic_root,
        l1_info_root=program.l1_info_root,
        network_id=network_id,
        aggchain_hash=_authorization_hash(program.authorization),
        new_local_exit_root=zero_if_empty(new_local_exit_root),
        new_pessimistic_root=pessimistic_root(
            new_state, version=target, height=program.height + 1, network_id=network_id
        ),
    )
    return ProgramOutput(public_values=values, new_state=new_state, root_version=target)


def _witnessed_balances(witnesses: Sequence[BalanceWitness]) -> dict[TokenInfo, int]:
    balances: dict[TokenInfo, int] = {}
    for witness in witnesses:
        if witness.token in balances:
            raise DuplicateTokenBalanceProof(token=witness.token)
        balances[witness.token] = witness.balance
    return balances


def _import_exits(program: ProgramInput, balances: dict[TokenInfo, int], known: KnownNodes) -> bytes:
    """Credit what is claimed, and mark it claimed. Sums may exceed 256 bits until the exits are through.

    AggLayer adds in 512 bits, which no list of exits that fits in memory can exceed.
    """
    network_id, nullifier_root = program.network_id, program.state.nullifier_root
    if len(program.nullifier_siblings) != len(program.imported_bridge_exits):
        raise InvalidNullifierPath()
    for imported, siblings in zip(program.imported_bridge_exits, program.nullifier_siblings):
        bridge_exit, index = imported.bridge_exit, imported.global_index
        if index.network_id == network_id:
            raise CannotExitToSameNetwork()
        try:
            if bridge_exit.dest_network != network_id:
                raise InvalidExitNetwork()
            check_claim(imported, program.l1_info_root, known)
        except BridgeError as fault:
            raise InvalidImportedBridgeExit(source=fault, global_index=index) from fault
        path = nullifier_path(index.network_id, index.leaf_index)
        nullifier_root = _nullified(nullifier_root, path, siblings, known)
        token = moved_token(bridge_exit)
        if token.origin_network == network_id:
            continue
        if token not in balances:
            raise MissingTokenBalanceProof(token=token)
        balances[token] += bridge_exit.amount
    return nullifier_root


def _nullified(root: bytes, path: int, siblings: Sequence[bytes], known: KnownNodes) -> bytes:
    """The nullifier root once `path` is set; its siblings prove that an empty subtree stood in its way."""
    height = NULLIFIER_DEPTH - len(siblings)
    if height < 0:
        raise InvalidNullifierPath()
    upward, index = siblings[::-1], path >> height
    if known.root_of_path(_EMPTY_NULLIFIERS[height], index, upward) != root:
        raise InvalidNullifierPath()
    subtree = known.root_of_path(NULLIFIER_SET, path, _EMPTY_NULLIFIERS[:height])
    return known.root_of_path(subtree, index, upward)


def _export_exits(program: ProgramInput, balances: dict[TokenInfo, int], frontier: ExitFrontier) -> None:
    network_id = program.network_id
    for bridge_exit in program.bridge_exits:
        if bridge_exit.dest_network == network_id:
            raise CannotExitToSameNetwork()
        try:
            frontier.append(leaf_hash(bridge_exit))
        except ExitTreeError as fault:
            raise InvalidLocalExitTreeOperation(source=fault) from fault
        token = bridge_exit.token
        if bridge_exit.leaf_type == LeafType.MESSAGE and token.origin_network != network_id:
            raise InvalidMessageOriginNetwork()
        if token.origin_network != MAINNET and not any(token.origin_token_address):
            raise InvalidL1TokenInfo(token=token)
        token = moved_token(bridge_exit)
        if token.origin_network == network_id:
            continue
        balance = balances.get(token)
        if balance is None:
            raise MissingTokenBalanceProof(token=token)
        if balance < bridge_exit.amount:
            raise BalanceUnderflowInBridgeExit()
        balances[token] = balance - bridge_exit.amount


def _settle_balances(program: ProgramInput, balances: Mapping[TokenInfo, int], known: KnownNodes) -> bytes:
    """The balance root once each witness is checked against it and replaced, in the order of tokens."""
    root = program.state.balance_root
    for witness in sorted(program.balances, key=lambda witness: witness.token):
        balance = balances[witness.token]
        if balance >= U256_LIMIT:
            raise BalanceOverflowInBridgeExit()
        path = balance_path(witness.token)
        before = witness.balance.to_bytes(32, "big")
        if len(witness.siblings) != BALANCE_DEPTH or known.root_of_path(before, path, witness.siblings) != root:
            raise InvalidBalancePath()
        if balance != witness.balance:
            root = known.root_of_path(balance.to_bytes(32, "big"), path, witness.siblings)
    return root


def _settled_version(program: ProgramInput) -> RootVersion:
    """Which version of the state's root L1 has settled. A network without any counts as V2, from which it migrates."""
    state, height, network_id = program.state, program.height, program.network_id
    computed_v3 = pessimistic_root(state, version=RootVersion.V3, height=height, network_id=network_id)
    if program.prev_pessimistic_root == computed_v3:
        return RootVersion.V3
    computed_v2 = pessimistic_root(state, version=RootVersion.V2, height=height, network_id=network_id)
    is_initial = computed_v2 == EMPTY_PESSIMISTIC_ROOT_V2 and height == 0
    if program.prev_pessimistic_root == computed_v2 or (program.prev_pessimistic_root == ZERO_HASH and is_initial):
        return RootVersion.V2
    raise InvalidPreviousPessimisticRoot(
        declared=program.prev_pessimistic_root, computed_v2=computed_v2, computed_v3=computed_v3
    )


def signed_version(program: ProgramInput, new_local_exit_root: bytes) -> RootVersion:
    """Which version of the root the signers authorize by what they sign. Raises InvalidSignature, InvalidMultisig."""
    imports, height, authorization = program.imported_bridge_exits, program.height, program.authorization
    claims_v3 = claims_commitment_v3(imports)
    v5 = commitment_v5(
        new_local_exit_root=new_local_exit_root,
        claims_v3=claims_v3,
        height=height,
        certificate_id=program.certificate_id,
    )
    if isinstance(authorization, Committee):
        try:
            check_multisig(
                signatures=authorization.signatures,
                signers=authorization.signers,
                threshold=authorization.threshold,
                commitment=v5,
            )
        except MultisigError as fault:
            raise InvalidMultisig(source=fault) from fault
        return RootVersion.V3
    signer, signature = authorization.signer, authorization.signature
    v3 = commitment_v3(new_local_exit_root=new_local_exit_root, claims_v3=claims_v3, height=height)
    if recover_digest(v5, signature) == signer or recover_digest(v3, signature) == signer:
        return RootVersion.V3
    v2 = commitment_v2(new_local_exit_root=new_local_exit_root, claims_v2=claims_commitment_v2(imports))
    if recover_digest(v2, signature) != signer:
        raise InvalidSignature()
    return RootVersion.V2


def _authorization_hash(authorization: SingleSigner | Committee) -> bytes:
    if isinstance(authorization, Committee):
        return aggchain_hash(authorization.signers, authorization.threshold)
    return aggchain_hash((authorization.signer,), 1)
