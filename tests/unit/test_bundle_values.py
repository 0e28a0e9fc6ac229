"""Bundles as values: built, signed by several people, written and read, and refused where they cannot work."""

import json
from pathlib import Path
from typing import Any

import pytest

from coordinator.bundle import Bundle, BundleLeg, LegSpec, contract_call
from coordinator.bundle.client import LifeEvent, outcome_of
from coordinator.bundle.legs import wei_of
from coordinator.bundle.legs_file import read_legs
from coordinator.spec.keys import dev_account
from nodes.evm.contracts import increment_call, packaged, transfer_call
from nodes.model.errors import InvalidInput, LimitExceeded, UnknownName
from nodes.model.execution import Transaction
from nodes.model.ids import SubmissionHash, hex_of, rollup_id_of
from nodes.ports import Ticket
from nodes.rules.bundle import bundle_hash
from nodes.rules.payload import decode
from nodes.wire.bundles import bundle_from_bytes

ALICE, CAROL, DAVE = (dev_account(1, "user", index) for index in range(3))


def leg(rollup: int = 7001, sender: bytes = ALICE.address, **changes: Any) -> dict[str, Any]:
    return {"rollup": rollup, "sender": sender, "to": DAVE.address, "value": 1, "gas": 30_000, "nonce": 0, **changes}


def two_signers() -> Bundle:
    return Bundle.build([leg(), leg(7002, CAROL.address, value="0.5 gwei")], expiry=77)


def test_every_signer_signs_its_own_legs_and_the_result_is_what_derivation_wants() -> None:
    bundle = two_signers()
    assert bundle.missing_signers == (ALICE.address, CAROL.address)
    half = bundle.sign(CAROL.key)
    assert half.missing_signers == (ALICE.address,)
    assert bundle.missing_signers == (ALICE.address, CAROL.address), "a bundle is a value"
    signed = half.sign(hex_of(ALICE.key))
    submission = bundle_from_bytes(signed.submission)
    assert submission.expiry == 77
    named = bundle_hash(version=1, expiry=77, leg_hashes=[item.leg_hash for item in submission.legs])
    assert named == signed.hash == bundle.hash
    for index, (item, own, sender) in enumerate(zip(submission.legs, signed.legs, (ALICE, CAROL), strict=True)):
        transaction = decode(item.payload, 7001 + index)
        assert isinstance(transaction, Transaction)
        assert item.rollup_id == rollup_id_of(7001 + index)
        assert transaction.sender == sender.address
        assert transaction.trailer == (named, index, 2)
        assert transaction.leg_hash == item.leg_hash == own.leg_hash
        assert transaction.tx_hash == own.tx_hash
    assert signed.legs[1].transaction.value == 500_000_000


def test_a_bundle_that_lacks_a_signature_cannot_be_sent() -> None:
    with pytest.raises(InvalidInput, match=f"not signed by {hex_of(CAROL.address)}"):
        _ = two_signers().sign(ALICE.key).submission


def test_a_key_that_sends_no_leg_is_refused() -> None:
    with pytest.raises(InvalidInput, match="sends no leg"):
        two_signers().sign(DAVE.key)


@pytest.mark.parametrize("key", [b"\1" * 31, "0xzz", bytes(32), "0x12"])
def test_what_is_no_key_is_refused(key: bytes | str) -> None:
    with pytest.raises(InvalidInput):
        two_signers().sign(key)


@pytest.mark.parametrize("signers", [[], [ALICE], [ALICE, CAROL]])
def test_a_bundle_survives_being_passed_on_at_any_stage(signers: list[Any]) -> None:
    bundle = two_signers()
    for signer in signers:
        bundle = bundle.sign(signer.key)
    assert Bundle.from_json(bundle.to_json()) == bundle


def test_a_file_that_was_changed_is_found_out() -> None:
    document = json.loads(two_signers().sign(ALICE.key).to_json())
    richer = json.loads(json.dumps(document))
    richer["legs"][1]["transaction"]["value"] = 10**18
    with pytest.raises(InvalidInput, match="the file says"):
        Bundle.from_json(json.dumps(richer))
    swapped = json.loads(json.dumps(document))
    other = json.loads(Bundle.build([leg(nonce=5), leg(7002, CAROL.address)]).sign(ALICE.key).to_json())
    swapped["legs"][0]["payload"] = other["legs"][0]["payload"]
    with pytest.raises(InvalidInput, match="another leg or another bundle"):
        Bundle.from_json(json.dumps(swapped))
    broken = json.loads(json.dumps(document))
    broken["legs"][0]["payload"] = "0x02c0"
    with pytest.raises(InvalidInput, match="would be dropped: malformed"):
        Bundle.from_json(json.dumps(broken))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "bundle_hash": "0x00"}'])
def test_what_is_no_bundle_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        Bundle.from_json(text)


@pytest.mark.parametrize(
    ("legs", "message"),
    [
        ([leg()], "at least 2 legs"),
        ([leg(), leg()], "same rollup, sender and nonce"),
        ([leg(), leg(7002), leg(nonce=1)], "must follow each other"),
        ([leg(gas=None), leg(7002)], "leg 1 has no gas"),
        ([leg(), leg(7002, nonce=None)], "leg 2 has no nonce"),
        ([leg("rollup-1"), leg(7002)], "is a name"),  # type: ignore[arg-type]
        ([leg(to="0x12"), leg(7002)], "leg 1: '0x12' is not an address"),
        ([leg(value="much"), leg(7002)], "is not an amount"),
        ([{"rollup": 1}, leg(7002)], "leg 1 has no sender"),
        ([leg(gas="30000"), leg(7002)], "leg 1: gas = '30000' must be a whole number"),
        ([leg(), leg(7002, nonce=-1)], "leg 2: nonce = -1 must be a whole number"),
        ([leg(70.5), leg(7002)], "leg 1: rollup 70.5 is neither"),  # type: ignore[arg-type]
    ],
)
def test_bundles_that_cannot_work_are_refused_before_anybody_signs(legs: list[Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Bundle.build(legs)


def test_a_misspelt_key_gets_a_hint() -> None:
    with pytest.raises(UnknownName, match="unknown key of leg 1 'vale'; did you mean 'value'"):
        Bundle.build([leg(vale=1), leg(7002)])


def test_too_many_legs_are_refused_by_name() -> None:
    with pytest.raises(LimitExceeded, match="MAX_LEGS_PER_BUNDLE"):
        Bundle.build([leg(7001 + at) for at in range(256)])


def test_two_legs_of_one_sender_on_one_rollup_are_fine_with_two_nonces() -> None:
    bundle = Bundle.build([leg(nonce=0), leg(nonce=1), leg(7002)]).sign(ALICE.key)
    assert not bundle.missing_signers


@pytest.mark.parametrize(
    ("value", "wei"), [(5, 5), ("5", 5), ("5 wei", 5), ("1.5 gwei", 1_500_000_000), ("0.000_1 ether", 10**14)]
)
def test_amounts_may_have_units(value: int | str, wei: int) -> None:
    assert wei_of(value) == wei


@pytest.mark.parametrize("value", [-1, True, "1.5", "1.5 wei", "one ether", "0.0000000000000000001 ether", "1 eth"])
def test_amounts_that_are_none_are_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="is not an amount"):
        wei_of(value)


def test_calls_are_encoded_from_a_signature_or_an_abi() -> None:
    assert contract_call("increment(uint256)", 7) == increment_call(key=7)
    to = hex_of(DAVE.address)
    assert contract_call("transfer", to, 9, abi=packaged("Token").abi) == transfer_call(to=DAVE.address, amount=9)
    dynamic = contract_call("f((uint256,string)[],bytes)", [(1, "one")], b"\1")
    assert len(dynamic) % 32 == 4


def test_calls_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidInput, match="takes 1 arguments, 2 were given"):
        contract_call("increment(uint256)", 1, 2)
    with pytest.raises(InvalidInput, match=r"arguments of increment\(uint256\)"):
        contract_call("increment(uint256)", "many")
    with pytest.raises(UnknownName, match="did you mean 'transfer'"):
        contract_call("transfr", abi=packaged("Token").abi)


def test_legs_can_be_written_as_toml(tmp_path: Path) -> None:
    file = tmp_path / "legs.toml"
    file.write_text(
        f'expiry = 12\n[[legs]]\nrollup = "rollup-1"\nsender = "{hex_of(ALICE.address)}"\n'
        f'to = "{hex_of(DAVE.address)}"\ncall = "increment(uint256)"\nargs = [3]\n'
        f'[[legs]]\nrollup = 7002\nsender = "{hex_of(CAROL.address)}"\nto = ""\nvalue = "1 ether"\n',
        encoding="utf-8",
    )
    specs, expiry = read_legs(file)
    assert expiry == 12
    assert specs == [
        LegSpec(rollup="rollup-1", sender=ALICE.address, to=DAVE.address, data=increment_call(key=3)),
        LegSpec(rollup=7002, sender=CAROL.address, to=b"", value=10**18),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("legs = 3", "has no legs"),
        ("leg = []", "did you mean 'legs'"),
        ('[[legs]]\nrollup = 1\ncall = "f()"\ndata = "0x"\n', "both call and data"),
        ("[[legs]]\nrollup = 1\nargs = [1]\n", "leg 1 has args but no call"),
        ('[[legs]]\nrollup = 1\ncall = "f(uint256)"\nargs = 1\n', "args a list"),
        ("[[legs]]\nrollup = 1\ncall = 3\n", "call must be a signature"),
        ("[[legs]\n", "cannot be read"),
        ("expiry = true\nlegs = []", "expiry = True"),
    ],
)
def test_legs_files_that_are_wrong_say_where(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "legs.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises((InvalidInput, UnknownName), match=message):
        read_legs(file)


class Sequencer:
    """Answers every submission alike."""

    def __init__(self, *, accepted: bool) -> None:
        self._accepted = accepted
        self.got: list[bytes] = []

    async def send(self, submission: bytes) -> Ticket:
        self.got.append(submission)
        return Ticket(
            submission_hash=SubmissionHash(bytes(32)), accepted=self._accepted, duplicate=False, reason="too large"
        )


async def test_submitting_hands_in_the_bytes_and_a_refusal_is_an_error() -> None:
    bundle = two_signers().sign(ALICE.key).sign(CAROL.key)
    takes = Sequencer(accepted=True)
    await bundle.submit(takes)
    assert takes.got == [bundle.submission]
    with pytest.raises(InvalidInput, match=r"refused bundle 0x.*: too large"):
        await bundle.submit(Sequencer(accepted=False))


@pytest.mark.parametrize(
    ("fates", "outcome"),
    [
        (["succeeded", "succeeded"], "succeeded"),
        (["succeeded", "reverted"], "partly succeeded"),
        (["reverted", "skipped"], "reverted"),
        (["skipped", "skipped"], "skipped"),
        (["dropped", "dropped"], "dropped"),
    ],
)
def test_the_outcome_of_a_bundle_in_words(fates: list[str], outcome: str) -> None:
    assert outcome_of(fates) == outcome


def test_events_read_as_sentences() -> None:
    event = LifeEvent(stage="leg", height=3, leg_index=1, rollup="rollup-2", fate="skipped", reason="nonce_too_high",
                      tx_hash=b"\1\2")  # fmt: skip
    assert str(event) == "leg 2 on rollup-2: skipped (nonce_too_high), 0x0102"
    assert str(LifeEvent(stage="executed", height=3, fate="succeeded")) == "executed at height 3: succeeded"


def test_legs_without_signature_have_no_transaction_hash() -> None:
    assert two_signers().legs[0].tx_hash is None
    assert isinstance(two_signers().legs[0], BundleLeg)
