"""Everything the pessimistic program refuses, one damaged input per variant, and which of two faults it names."""

import pickle
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any, get_type_hints

import pytest

from nodes.model import proof_errors as errors
from nodes.model.agglayer import (
    ETH,
    MAINNET,
    CertificateHeight,
    GlobalIndex,
    ImportedBridgeExit,
    MerkleProof,
    Multisig,
    NetworkId,
    RollupClaim,
    TokenInfo,
)
from nodes.model.ids import ZERO_HASH, Address
from nodes.rules.certificate import certificate_id
from nodes.rules.exit_tree import MAX_LEAVES
from nodes.rules.hashes import keccak256
from nodes.rules.pessimistic import Committee, ProgramInput, RootVersion, SingleSigner, pessimistic_root, run
from nodes.rules.signing import sign_digest
from tests.support.agglayer_world import KEYS, SIGNERS, USDC, Network, World, message, transfer

OTHER = b"\xee" * 32
OWN = TokenInfo(NetworkId(1), Address(b"\x55" * 20))


def _program() -> ProgramInput:
    """A program that runs: imports from L1 and from rollup 2, exits of ether, USDC and the network's own token."""
    world, network = World(), Network(1, signers=3, threshold=2)
    world.bridge(2, [transfer(1, 9, USDC), transfer(1, 8, USDC)])
    world.deposit(1, [100, 50])
    imports = [world.claim(0, 0), world.claim(0, 1), world.claim(2, 0)]
    exits = [transfer(2, 30), transfer(0, 4, USDC), transfer(2, 70, OWN), message(2, 1, origin=1)]
    program, _ = network.witness(network.certificate(exits, imports), world.l1_info_root)
    run(program)
    return program


PROGRAM = _program()
MAINNET_IMPORT, SECOND_IMPORT, ROLLUP_IMPORT = PROGRAM.imported_bridge_exits
EXIT = PROGRAM.bridge_exits[0]


def _with_import(at: int, imported: ImportedBridgeExit) -> ProgramInput:
    imports = list(PROGRAM.imported_bridge_exits)
    imports[at] = imported
    return replace(PROGRAM, imported_bridge_exits=tuple(imports))


def _with_exits(*exits: Any) -> ProgramInput:
    return replace(PROGRAM, bridge_exits=exits)


def _with_claim(at: int, **changed: Any) -> ProgramInput:
    imported = PROGRAM.imported_bridge_exits[at]
    return _with_import(at, replace(imported, claim=replace(imported.claim, **changed)))


def _damaged(proof: MerkleProof, height: int = 0) -> MerkleProof:
    siblings = list(proof.siblings)
    siblings[height] = OTHER
    return MerkleProof(proof.root, tuple(siblings))


def _caught(program: ProgramInput) -> errors.ProofError:
    with pytest.raises(errors.ProofError) as caught:
        run(program)
    return caught.value


ROLLUP_CLAIM = ROLLUP_IMPORT.claim
assert isinstance(ROLLUP_CLAIM, RollupClaim)
L1_LEAF = ROLLUP_CLAIM.l1_leaf
GER_PROOF = ROLLUP_CLAIM.ger_to_l1_root
BAD_CLAIMS = [
    (
        errors.MismatchGlobalIndexInclusionProof,
        _with_import(2, replace(ROLLUP_IMPORT, global_index=GlobalIndex(True, 0, 0))),
    ),
    (
        errors.MismatchGlobalIndexInclusionProof,
        _with_import(0, replace(MAINNET_IMPORT, global_index=GlobalIndex(False, 1, 0))),
    ),
    (errors.MismatchL1Root, replace(PROGRAM, l1_info_root=OTHER)),
    (errors.MismatchL1Root, _with_claim(2, ger_to_l1_root=MerkleProof(OTHER, GER_PROOF.siblings))),
    (errors.MismatchMER, _with_claim(0, leaf_to_mer=MerkleProof(OTHER, GER_PROOF.siblings))),
    (errors.MismatchMER, _with_claim(0, l1_leaf=replace(L1_LEAF, mainnet_exit_root=OTHER))),
    (errors.MismatchRER, _with_claim(2, ler_to_rer=MerkleProof(OTHER, GER_PROOF.siblings))),
    (errors.InvalidMerklePathLeafToLER, _with_claim(2, leaf_to_ler=_damaged(ROLLUP_CLAIM.leaf_to_ler))),
    (errors.InvalidMerklePathLeafToLER, _with_claim(2, leaf_to_ler=_damaged(ROLLUP_CLAIM.leaf_to_ler, 31))),
    (
        errors.InvalidMerklePathLeafToLER,
        _with_claim(2, leaf_to_ler=ROLLUP_CLAIM.leaf_to_ler._replace(siblings=ROLLUP_CLAIM.leaf_to_ler.siblings[:-1])),
    ),
    (
        errors.InvalidMerklePathLeafToLER,
        _with_import(2, replace(ROLLUP_IMPORT, bridge_exit=replace(ROLLUP_IMPORT.bridge_exit, amount=10**9))),
    ),
    (
        errors.InvalidMerklePathLeafToLER,
        _with_import(0, replace(MAINNET_IMPORT, global_index=GlobalIndex(True, 0, 1))),
    ),
    (errors.InvalidMerklePathLERToRER, _with_claim(2, ler_to_rer=_damaged(ROLLUP_CLAIM.ler_to_rer, 3))),
    (
        errors.InvalidMerklePathLERToRER,
        _with_import(2, replace(ROLLUP_IMPORT, global_index=GlobalIndex(False, 2, 0))),
    ),
    (errors.InvalidMerklePathGERToL1Root, _with_claim(0, ger_to_l1_root=_damaged(GER_PROOF, 5))),
    (errors.InvalidMerklePathGERToL1Root, _with_claim(2, l1_leaf=replace(L1_LEAF, l1_info_tree_index=1))),
    (errors.InvalidMerklePathGERToL1Root, _with_claim(2, l1_leaf=replace(L1_LEAF, timestamp_s=1))),
    (errors.InvalidExitNetwork, _with_import(0, replace(MAINNET_IMPORT, bridge_exit=transfer(3, 100)))),
]


@pytest.mark.parametrize(("expected", "program"), BAD_CLAIMS)
def test_claims_that_do_not_hold(expected: type[errors.BridgeError], program: ProgramInput) -> None:
    refusal = _caught(program)
    assert isinstance(refusal, errors.InvalidImportedBridgeExit)
    assert type(refusal.source) is expected
    assert refusal.global_index in [imported.global_index for imported in program.imported_bridge_exits]
    assert str(refusal).startswith("import of leaf ")


def _resigned(program: ProgramInput, network: Network) -> ProgramInput:
    """A program whose certificate says what the program's fields say."""
    certificate = network.signed(
        replace(network.certificate(program.bridge_exits), height=program.height, network_id=program.network_id)
    )
    assert isinstance(certificate.aggchain_data, Multisig)
    signatures = certificate.aggchain_data.signatures
    return replace(
        program,
        certificate_id=certificate_id(certificate),
        authorization=Committee(signatures=signatures, signers=network.signers, threshold=1),
    )


def _last_height() -> ProgramInput:
    network = Network(1)
    program, _ = network.witness(network.certificate([transfer(2, 1, OWN)]))
    height = 2**64 - 1
    root = pessimistic_root(program.state, version=RootVersion.V3, height=height, network_id=program.network_id)
    moved = replace(program, height=CertificateHeight(height), prev_pessimistic_root=root)
    return _resigned(moved, network)


ETH_WITNESS, USDC_WITNESS = PROGRAM.balances
REFUSED = [
    (errors.InvalidNullifierPath, replace(PROGRAM, nullifier_siblings=PROGRAM.nullifier_siblings[:-1])),
    (
        errors.InvalidNullifierPath,
        replace(PROGRAM, nullifier_siblings=(((OTHER,) * 65), *PROGRAM.nullifier_siblings[1:])),
    ),
    (errors.InvalidNullifierPath, replace(PROGRAM, nullifier_siblings=PROGRAM.nullifier_siblings[::-1])),
    (
        errors.InvalidNullifierPath,
        replace(
            _with_import(1, MAINNET_IMPORT),
            nullifier_siblings=(PROGRAM.nullifier_siblings[0],) * 2 + PROGRAM.nullifier_siblings[2:],
        ),
    ),
    (errors.InvalidBalancePath, replace(PROGRAM, balances=(replace(ETH_WITNESS, balance=1), USDC_WITNESS))),
    (
        errors.InvalidBalancePath,
        replace(PROGRAM, balances=(replace(ETH_WITNESS, siblings=ETH_WITNESS.siblings[:-1]), USDC_WITNESS)),
    ),
    (
        errors.InvalidBalancePath,
        replace(PROGRAM, balances=(ETH_WITNESS, replace(USDC_WITNESS, siblings=ETH_WITNESS.siblings))),
    ),
    (
        errors.BalanceOverflowInBridgeExit,
        replace(PROGRAM, balances=(replace(ETH_WITNESS, balance=2**256 - 1), USDC_WITNESS)),
    ),
    (errors.BalanceUnderflowInBridgeExit, _with_exits(EXIT, replace(EXIT, amount=121))),
    (errors.CannotExitToSameNetwork, _with_exits(EXIT, transfer(1, 1))),
    (
        errors.CannotExitToSameNetwork,
        _with_import(2, replace(ROLLUP_IMPORT, global_index=GlobalIndex(False, 0, 0))),
    ),
    (errors.InvalidMessageOriginNetwork, _with_exits(message(2, 1, origin=0))),
    (errors.InvalidMessageOriginNetwork, _with_exits(message(2, 1, origin=2))),
    (errors.InvalidL1TokenInfo, _with_exits(transfer(2, 1, TokenInfo(NetworkId(1), Address(bytes(20)))))),
    (errors.MissingTokenBalanceProof, replace(PROGRAM, balances=(ETH_WITNESS,))),
    (errors.MissingTokenBalanceProof, _with_exits(transfer(2, 0, TokenInfo(MAINNET, Address(b"\x01" * 20))))),
    (errors.DuplicateTokenBalanceProof, replace(PROGRAM, balances=(ETH_WITNESS, USDC_WITNESS, ETH_WITNESS))),
    (
        errors.InvalidSignature,
        replace(PROGRAM, authorization=SingleSigner(signer=SIGNERS[0], signature=sign_digest(OTHER, KEYS[0]))),
    ),
    (errors.InvalidSignature, replace(PROGRAM, authorization=SingleSigner(signer=SIGNERS[0], signature=bytes(65)))),
    (errors.InvalidLocalExitTreeOperation, replace(PROGRAM, state=PROGRAM.state._replace(leaf_count=MAX_LEAVES))),
    (errors.InvalidPreviousPessimisticRoot, replace(PROGRAM, prev_pessimistic_root=OTHER)),
    # A network that has settled something cannot start from nothing.
    (errors.InvalidPreviousPessimisticRoot, replace(PROGRAM, height=CertificateHeight(1))),
    (errors.InvalidPreviousPessimisticRoot, replace(PROGRAM, state=PROGRAM.state._replace(leaf_count=1))),
    (errors.HeightOverflow, _last_height()),
]


@pytest.mark.parametrize(("expected", "program"), REFUSED)
def test_inputs_that_are_refused(expected: type[errors.ProofError], program: ProgramInput) -> None:
    assert type(_caught(program)) is expected


COMMITTEE = PROGRAM.authorization
assert isinstance(COMMITTEE, Committee)
FIRST, SECOND, THIRD = COMMITTEE.signatures
COMMITTEES = [
    (errors.TooManySigners, replace(COMMITTEE, signatures=(*COMMITTEE.signatures, None))),
    (errors.UnderThreshold, replace(COMMITTEE, signatures=(None, SECOND, None))),
    (errors.UnderThreshold, replace(COMMITTEE, signatures=())),
    (errors.MultisigInvalidSignature, replace(COMMITTEE, signatures=(FIRST, SECOND, bytes(65)))),
    (errors.MultisigInvalidSigner, replace(COMMITTEE, signatures=(FIRST, THIRD))),
    (errors.MultisigInvalidSigner, replace(COMMITTEE, signatures=(FIRST, sign_digest(OTHER, KEYS[1])))),
]


@pytest.mark.parametrize(("expected", "authorization"), COMMITTEES)
def test_committees_that_did_not_sign(expected: type[errors.MultisigError], authorization: Committee) -> None:
    refusal = _caught(replace(PROGRAM, authorization=authorization))
    assert isinstance(refusal, errors.InvalidMultisig)
    assert type(refusal.source) is expected
    assert str(refusal).startswith("multisig: ")


@pytest.mark.parametrize(
    "changed",
    [
        {"certificate_id": OTHER},
        {"bridge_exits": (replace(EXIT, dest_address=Address(OTHER[:20])), *PROGRAM.bridge_exits[1:])},
        {"bridge_exits": PROGRAM.bridge_exits[::-1]},
    ],
)
def test_signatures_cover_what_the_program_does(changed: dict[str, Any]) -> None:
    refusal = _caught(replace(PROGRAM, **changed))
    assert isinstance(refusal, errors.InvalidMultisig)
    assert isinstance(refusal.source, errors.MultisigInvalidSigner)


def test_imports_are_looked_at_before_exits_and_overflow_last() -> None:
    bad_exit = replace(EXIT, dest_network=NetworkId(1))
    bad_import = replace(PROGRAM.imported_bridge_exits[2], global_index=GlobalIndex(False, 0, 0))
    both = replace(_with_import(2, bad_import), bridge_exits=(replace(EXIT, amount=10**9),))
    assert type(_caught(both)) is errors.CannotExitToSameNetwork
    overflow = replace(PROGRAM, balances=(replace(ETH_WITNESS, balance=2**256 - 1), USDC_WITNESS))
    assert type(_caught(replace(overflow, bridge_exits=(bad_exit,)))) is errors.CannotExitToSameNetwork
    assert type(_caught(replace(overflow, prev_pessimistic_root=OTHER))) is errors.BalanceOverflowInBridgeExit
    unsigned = Committee(signatures=(), signers=SIGNERS, threshold=1)
    root_first = replace(PROGRAM, prev_pessimistic_root=OTHER, authorization=unsigned)
    assert type(_caught(root_first)) is errors.InvalidPreviousPessimisticRoot


def test_a_full_tree_is_named_before_the_exit_is_looked_at() -> None:
    full = replace(_with_exits(message(2, 1, origin=2)), state=PROGRAM.state._replace(leaf_count=MAX_LEAVES))
    assert type(_caught(full)) is errors.InvalidLocalExitTreeOperation


def test_the_programs_state_is_not_believed() -> None:
    richer = replace(PROGRAM, state=PROGRAM.state._replace(balance_root=keccak256(b"rich")))
    assert type(_caught(richer)) is errors.InvalidBalancePath
    only_own = replace(richer, balances=(), imported_bridge_exits=(), nullifier_siblings=())
    assert type(_caught(replace(only_own, bridge_exits=()))) is errors.InvalidPreviousPessimisticRoot


# --- the errors themselves --------------------------------------------------------------------------------------------


def _kinds(kind: type[errors.Refusal]) -> Iterator[type[errors.Refusal]]:
    for below in kind.__subclasses__():
        if below.MESSAGE:
            yield below
        yield from _kinds(below)


SAMPLES: dict[Any, Any] = {
    int: 7,
    bytes: OTHER,
    str: "text",
    TokenInfo: ETH,
    GlobalIndex: GlobalIndex(False, 1, 2),
    errors.BridgeError: errors.MismatchMER(),
    errors.MultisigError: errors.UnderThreshold(got=1, expected=2),
    errors.ExitTreeError: errors.LeafIndexOverflow(),
    errors.SparseTreeError: errors.KeyPresent(path=3),
}


@pytest.mark.parametrize("kind", sorted(set(_kinds(errors.Refusal)), key=str))
def test_every_refusal_is_readable_and_crosses_processes(kind: type[errors.Refusal]) -> None:
    hints = get_type_hints(kind)
    values = {field.name: SAMPLES[hints[field.name]] for field in fields(kind)}
    refusal = kind(**values)
    text = str(refusal)
    assert text
    assert "{" not in text
    assert "b'" not in text
    again = pickle.loads(pickle.dumps(refusal))
    assert type(again) is kind
    assert str(again) == text


def test_variants_have_the_numbers_of_agglayer() -> None:
    assert sorted(kind.code for kind in set(_kinds(errors.ProofError))) == list(range(26))
    assert sorted(kind.code for kind in set(_kinds(errors.BridgeError))) == list(range(8))
    assert sorted(kind.code for kind in set(_kinds(errors.MultisigError))) == list(range(4))


def test_what_the_network_settled_is_named() -> None:
    refusal = _caught(replace(PROGRAM, prev_pessimistic_root=OTHER))
    assert isinstance(refusal, errors.InvalidPreviousPessimisticRoot)
    assert refusal.declared == OTHER
    assert refusal.computed_v3 == pessimistic_root(
        PROGRAM.state, version=RootVersion.V3, height=0, network_id=PROGRAM.network_id
    )
    assert PROGRAM.prev_pessimistic_root == ZERO_HASH
