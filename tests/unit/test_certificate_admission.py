"""Every reason for which a certificate is not taken, each with what to do about it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from coincurve import PrivateKey

from nodes.agglayer.orchestrator import MAX_WAITING
from nodes.model.agglayer import (
    AgglayerParams,
    Certificate,
    CertificateHeight,
    CertificateStatus,
    EcdsaSignature,
    Multisig,
    NetworkId,
)
from nodes.model.errors import CertificateRefused, Overloaded, RefusalKind
from nodes.model.ids import ZERO_HASH, Height
from nodes.model.verdict import SignedVerdict
from nodes.rules.certificate import (
    certificate_commitment,
    certificate_commitment_v2,
    certificate_commitment_v3,
    certificate_id,
)
from nodes.rules.signing import address_of_key, sign_digest
from nodes.rules.verdict import verdict_digest, verdict_hash
from tests.support.agglayer_world import KEYS, Network, World, transfer
from tests.support.certificates import (
    CHAIN_ID,
    RESOLVER,
    CertificateHarness,
    Chain,
    MemoryL1,
    heights,
    params,
    stating,
    verdict,
)

STRANGER = PrivateKey(b"\x55" * 32)
INVALID, SIGNATURE = RefusalKind.INVALID_DATA, RefusalKind.SIGNATURE_VERIFICATION
REPLACE = RefusalKind.UNABLE_TO_REPLACE_PENDING_CERTIFICATE


def first(amount: int = 5) -> Certificate:
    """Refused by the program, not at admission: nothing was deposited."""
    return Chain(1).certificate([transfer(2, amount)])


def wrongly_signed(certificate: Certificate) -> Certificate:
    signature = sign_digest(certificate_commitment(certificate), STRANGER)
    return replace(certificate, aggchain_data=Multisig(signatures=(signature,)))


def resigned(certificate: Certificate) -> Certificate:
    return Network(1).signed(certificate)


def altered(certificate: Certificate, **fields: object) -> Certificate:
    return resigned(replace(certificate, **fields))  # type: ignore[arg-type]


ECDSA_OF_A_STRANGER = replace(
    first(), aggchain_data=EcdsaSignature(signature=sign_digest(certificate_commitment_v2(first()), STRANGER))
)
OUT_OF_NOTHING = heights(1, 4)
CASES: dict[str, tuple[Callable[[], Certificate], RefusalKind, str]] = {
    "unknown network": (lambda: altered(first(), network_id=NetworkId(9)), INVALID, "unknown network '9'"),
    "mainnet": (lambda: altered(first(), network_id=NetworkId(0)), INVALID, "unknown network '0'"),
    "height too high": (
        lambda: altered(first(), height=CertificateHeight(3)),
        INVALID,
        "certificate 3 of network 1: the next height of the network is 0",
    ),
    "another root": (
        lambda: altered(first(), prev_local_exit_root=b"\x01" * 32),
        INVALID,
        "but the certificate before ends in 0x27ae5ba0",
    ),
    "wrong signer": (lambda: wrongly_signed(first()), SIGNATURE, "not 0x"),
    "nobody's signature": (
        lambda: replace(first(), aggchain_data=Multisig(signatures=(bytes(65),))),
        SIGNATURE,
        "signature 0 is nobody's",
    ),
    "no signature": (
        lambda: replace(first(), aggchain_data=Multisig(signatures=(None,))),
        SIGNATURE,
        "0 signatures, but 1 are needed",
    ),
    "too many places": (
        lambda: replace(first(), aggchain_data=Multisig(signatures=(None, None))),
        SIGNATURE,
        "2 places for signatures, but there are 1 signers",
    ),
    "changed after signing": (
        lambda: replace(first(), new_local_exit_root=b"\x02" * 32),
        SIGNATURE,
        "sign commitment V5",
    ),
    "single signature of a stranger": (lambda: ECDSA_OF_A_STRANGER, SIGNATURE, "the registered signer is 0x"),
    "cut chain data": (
        lambda: replace(first(), custom_chain_data=b"\x01" * 100),
        INVALID,
        "custom_chain_data: custom chain data of 100 bytes is cut short",
    ),
    "range of a stranger": (
        lambda: stating(first(), heights(1, 4), keys=[STRANGER]),
        SIGNATURE,
        "the range is not signed",
    ),
    "range of another certificate": (
        lambda: replace(first(), custom_chain_data=stating(first(6), heights(1, 4)).custom_chain_data),
        SIGNATURE,
        "the range is not signed",
    ),
    "range with a gap": (
        lambda: stating(first(), heights(2, 4)),
        INVALID,
        "the range begins at height 2, the one before ends at 0",
    ),
    "range backwards": (
        lambda: stating(first(), replace(heights(1, 4), first_height=Height(1), last_height=Height(0))),
        INVALID,
        "an empty range states nothing",
    ),
    "no verdict": (
        lambda: stating_without_verdict(first()),
        INVALID,
        "the verdict of height 4 is missing",
    ),
    "verdict of a stranger": (
        lambda: stating(first(), heights(1, 4), signed=verdict(4, key=STRANGER)),
        SIGNATURE,
        "the verdict is not signed by the resolver",
    ),
    "verdict of another height": (
        lambda: stating(first(), replace(heights(1, 4), verdict_root=heights(1, 5).verdict_root), signed=verdict(5)),
        INVALID,
        "the verdict is of height 5, the range ends at 4",
    ),
    "verdict root of another verdict": (
        lambda: stating(first(), heights(1, 4, epoch=1)),
        INVALID,
        "the verdict root is not the hash of the verdict beside it",
    ),
}


def stating_without_verdict(certificate: Certificate) -> Certificate:
    whole = stating(certificate, OUT_OF_NOTHING)
    return replace(whole, custom_chain_data=whole.custom_chain_data[:178])


@pytest.mark.parametrize("case", CASES)
async def test_a_refused_certificate_says_why(case: str, tmp_path: Path) -> None:
    make, kind, text = CASES[case]
    service = CertificateHarness(tmp_path, MemoryL1(World(2)))
    async with service.running():
        with pytest.raises(CertificateRefused) as refused:
            await service.orchestrator.submit(make())
        assert refused.value.kind == kind
        assert text in str(refused.value)
        assert service.book.lanes[NetworkId(1)].latest() is None


async def test_without_verdicts_none_may_be_stated(tmp_path: Path) -> None:
    service = CertificateHarness(tmp_path, MemoryL1(World(2)), agglayer=params(has_verdicts=False))
    plain = replace(heights(1, 4), verdict_root=ZERO_HASH)
    async with service.running():
        with pytest.raises(CertificateRefused, match="a verdict is stated, but this testnet has none"):
            await service.orchestrator.submit(stating(first(), heights(1, 4)))
        whole = stating(first(), plain)
        await service.orchestrator.submit(replace(whole, custom_chain_data=whole.custom_chain_data[:178]))


@pytest.mark.parametrize(
    "commitment", [certificate_commitment, certificate_commitment_v3, certificate_commitment_v2], ids=["v5", "v3", "v2"]
)
async def test_a_single_signature_over_any_commitment_is_taken_and_settles(commitment: object, tmp_path: Path) -> None:
    world = World(2)
    unsigned = Chain(1).certificate([transfer(2, 5)], world.deposit(1, [100]))
    digest = commitment(unsigned)  # type: ignore[operator]
    single = replace(unsigned, aggchain_data=EcdsaSignature(signature=sign_digest(digest, KEYS[0])))
    service = CertificateHarness(tmp_path, MemoryL1(world))
    async with service.running():
        assert await service.orchestrator.submit(single) == certificate_id(single)
        await service.drive(lambda: service.status(1, 0) is CertificateStatus.SETTLED)


def committee(threshold: int) -> AgglayerParams:
    """Networks whose certificates need so many signatures of KEYS[0] and STRANGER."""
    known = params()
    member = address_of_key(STRANGER)
    networks = tuple(replace(network, co_signers=(member,)) for network in known.networks)
    return replace(known, networks=networks, signer_threshold=threshold)


async def test_a_committee_signs_up_to_its_threshold(tmp_path: Path) -> None:
    world = World(2)
    unsigned = Chain(1).certificate([transfer(2, 5)], world.deposit(1, [100]))
    digest = certificate_commitment(unsigned)
    ours, other = sign_digest(digest, KEYS[0]), sign_digest(digest, STRANGER)

    def signed(*signatures: bytes | None) -> Certificate:
        return replace(unsigned, aggchain_data=Multisig(signatures=signatures))

    service = CertificateHarness(tmp_path, MemoryL1(world), agglayer=committee(2))
    async with service.running():
        for few in (signed(ours), signed(None, other)):
            with pytest.raises(CertificateRefused, match="1 signatures, but 2 are needed"):
                await service.orchestrator.submit(few)
        with pytest.raises(CertificateRefused, match="not 0x"):
            await service.orchestrator.submit(signed(other, ours))
        single = replace(unsigned, aggchain_data=EcdsaSignature(signature=ours))
        with pytest.raises(CertificateRefused, match="the network has 2 signers"):
            await service.orchestrator.submit(single)
        await service.orchestrator.submit(signed(ours, other))
        await service.drive(lambda: service.status(1, 0) is CertificateStatus.SETTLED)


async def test_a_committee_signs_the_range_up_to_its_threshold_too(tmp_path: Path) -> None:
    world = World(2)
    unsigned = Chain(1).certificate([transfer(2, 5)], world.deposit(1, [100]))
    digest = certificate_commitment(unsigned)
    signatures = (sign_digest(digest, KEYS[0]), sign_digest(digest, STRANGER))
    both = replace(unsigned, aggchain_data=Multisig(signatures=signatures))
    service = CertificateHarness(tmp_path, MemoryL1(world), agglayer=committee(2))
    async with service.running():
        for few in ([KEYS[0]], [None, STRANGER], [KEYS[0], None], []):
            with pytest.raises(CertificateRefused, match=r"the range is not signed by 2 of .* but 2 are needed") as one:
                await service.orchestrator.submit(stating(both, heights(1, 4), keys=few))
            assert one.value.kind == SIGNATURE
        with pytest.raises(CertificateRefused, match=r"the range is not signed by 2 of .* not 0x"):
            await service.orchestrator.submit(stating(both, heights(1, 4), keys=[KEYS[0], KEYS[0]]))
        with pytest.raises(CertificateRefused, match=r"the range is not signed by 2 of .* 3 places for signatures"):
            await service.orchestrator.submit(stating(both, heights(1, 4), keys=[KEYS[0], STRANGER, None]))
        await service.orchestrator.submit(stating(both, heights(1, 4), keys=[KEYS[0], STRANGER]))
        await service.drive(lambda: service.status(1, 0) is CertificateStatus.SETTLED)
    assert service.l1.ranges[NetworkId(1)] == heights(1, 4)


async def test_an_empty_range_must_keep_what_stands(tmp_path: Path) -> None:
    world = World(2)
    chain = Chain(1)
    deposit = world.deposit(1, [100])
    service = CertificateHarness(tmp_path, MemoryL1(world))
    async with service.running():
        certificate = stating(chain.certificate([], deposit), heights(1, 4))
        await service.orchestrator.submit(certificate)
        chain.advance(certificate, heights(1, 4))
        following = chain.certificate([transfer(2, 5)])
        forgetful = replace(chain.empty(), outcome_root=ZERO_HASH)
        with pytest.raises(CertificateRefused, match="an empty range states nothing"):
            await service.orchestrator.submit(stating(following, forgetful))
        await service.orchestrator.submit(stating(following, chain.empty()))
        await service.drive(lambda: service.status(1, 1) is CertificateStatus.SETTLED)


async def test_the_same_certificate_again_is_the_same_and_a_settled_one_is_a_replay(tmp_path: Path) -> None:
    world = World(2)
    certificate = stating(Chain(1).certificate([], world.deposit(1, [100])), heights(1, 4))
    service = CertificateHarness(tmp_path, MemoryL1(world))
    async with service.running():
        taken = await service.orchestrator.submit(certificate)
        assert await service.orchestrator.submit(certificate) == taken
        assert service.book.lanes[NetworkId(1)].latest() is not None
        await service.drive(lambda: service.book.progress(NetworkId(1)).settled is not None)
        for _ in range(2):
            with pytest.raises(CertificateRefused, match="it has already been settled") as refused:
                await service.orchestrator.submit(certificate)
            assert refused.value.kind == REPLACE
            assert refused.value.stored_certificate_id == "0x" + taken.hex()
            await service.drive(lambda: service.book.progress(NetworkId(1)).final_height == 4)


async def test_only_a_certificate_in_error_is_replaced(tmp_path: Path) -> None:
    service = CertificateHarness(tmp_path, MemoryL1(World(2)))
    async with service.running():
        await service.orchestrator.submit(first(5))
        with pytest.raises(CertificateRefused, match="it is not in error but pending") as refused:
            await service.orchestrator.submit(first(6))
        assert refused.value.kind == REPLACE
        service.end_epoch()
        await service.is_status(1, 0, CertificateStatus.IN_ERROR)
        replacement = await service.orchestrator.submit(first(6))
        latest = service.book.latest_header(NetworkId(1), settled=False)
        assert latest is not None
        assert latest.certificate_id == replacement


async def test_one_in_error_can_be_sent_again_as_it_is(tmp_path: Path) -> None:
    service = CertificateHarness(tmp_path, MemoryL1(World(2)))
    async with service.running():
        await service.orchestrator.submit(first())
        service.end_epoch()
        await service.is_status(1, 0, CertificateStatus.IN_ERROR)
        await service.orchestrator.submit(first())
        assert service.status(1, 0) is CertificateStatus.PENDING


async def test_a_new_epoch_of_verdicts_is_seen_at_once(tmp_path: Path) -> None:
    service = CertificateHarness(tmp_path, MemoryL1(World(2)))
    service.verdicts[4] = b"\x09" * 32
    async with service.running():
        with pytest.raises(CertificateRefused, match="before a new epoch began"):
            await service.orchestrator.submit(stating(first(), heights(1, 4)))


async def test_waiting_certificates_are_bounded(tmp_path: Path) -> None:
    service = CertificateHarness(tmp_path, MemoryL1(World(2)))
    chain = Chain(1)
    async with service.running():
        for _ in range(MAX_WAITING):
            certificate = chain.certificate()
            await service.orchestrator.submit(certificate)
            chain.advance(certificate)
        with pytest.raises(Overloaded):
            await service.orchestrator.submit(chain.certificate())


async def test_a_verdict_that_cannot_be_read_is_refused(tmp_path: Path) -> None:

    nonsense = SignedVerdict(b"\x01", sign_digest(verdict_digest(b"\x01", chain_id=CHAIN_ID), RESOLVER))
    stated = replace(heights(1, 4), verdict_root=verdict_hash(b"\x01"))
    service = CertificateHarness(tmp_path, MemoryL1(World(2)))
    async with service.running():
        with pytest.raises(CertificateRefused, match="verdict of 1 bytes is cut short"):
            await service.orchestrator.submit(stating(first(), stated, signed=nonsense))
