"""What is wrong with a signed transaction is said with the words that wallets look for."""

from collections.abc import Callable

import pytest

from nodes.model.execution import Transaction
from nodes.model.ids import hex_of
from nodes.rollup.rpc.checks import Account, accepted, account_flaw, chain_id_in, static_flaw
from nodes.rules.payload import UnsignedTransaction, sign
from tests.support.crafting import ADDRESSES, CHAINS, KEYS, RECIPIENT, LegPlan, make_testnet

CHAIN = CHAINS[0]
PARAMS = make_testnet().rollups[0]
ADDRESS = hex_of(ADDRESSES[0])


def signed(**changes: object) -> bytes:
    fields: dict[str, object] = {"chain_id": CHAIN, "nonce": 0, "gas_limit": 30_000, "to": RECIPIENT}
    return sign(UnsignedTransaction(**{**fields, **changes}), KEYS[0])  # type: ignore[arg-type]


def decoded(payload: bytes) -> Transaction:
    transaction = accepted(payload, CHAIN)
    assert isinstance(transaction, Transaction), transaction
    return transaction


@pytest.mark.parametrize("tx_type", [0, 1, 2])
def test_the_chain_id_of_a_signed_transaction_is_found(tx_type: int) -> None:
    assert chain_id_in(signed(tx_type=tx_type, chain_id=2**62 + 5)) == 2**62 + 5
    assert decoded(signed(tx_type=tx_type)).tx_type == tx_type


@pytest.mark.parametrize(
    "payload", [b"", b"\x02", b"\x03\xc0", b"\x02\xc0", b"\xc0", b"\x7e\xc0", b"abc", b"\xf8", b"\xc1\xc0"]
)
def test_a_chain_id_that_cannot_be_read_is_none(payload: bytes) -> None:
    assert chain_id_in(payload) is None


def _bad_signature() -> bytes:
    payload = bytearray(signed())
    payload[-32:] = b"\xff" * 32
    return bytes(payload)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: signed(chain_id=1), "invalid sender: invalid chain id for signer: have 1 want 7001"),
        (_bad_signature, "invalid sender: invalid transaction v, r, s values"),
        (lambda: b"\x03" + signed()[1:], "transaction type not supported: 0x3"),
        (lambda: b"\x7e\xc0", "transaction type not supported: 0x7e"),
        (lambda: signed() + b"\0", "rlp: "),
        (lambda: b"", "rlp: "),
        (lambda: signed(calldata=bytes(128 * 1024)), "oversized data: transaction size"),
        (
            lambda: bytes.fromhex(
                "f85f808082520894111111111111111111111111111111111111111180801ba0" + "11" * 32 + "a0" + "11" * 32
            ),
            "only replay-protected (EIP-155) transactions allowed over RPC",
        ),
    ],
)
def test_what_no_reader_takes_is_refused_as_geth_does(make: Callable[[], bytes], text: str) -> None:
    flaw = accepted(make(), CHAIN)
    assert isinstance(flaw, str)
    assert flaw.startswith(text)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, ""),
        ({"gas_limit": 1_000_001}, "transaction gas limit too high (cap: 1000000, tx: 1000001)"),
        ({"gas_limit": 20_999}, "intrinsic gas too low: gas 20999, minimum needed 21000"),
        ({"gas_limit": 30_000, "to": b""}, "intrinsic gas too low: gas 30000, minimum needed 53000"),
        (
            {"max_fee_per_gas": 1, "max_priority_fee_per_gas": 2},
            f"max priority fee per gas higher than max fee per gas: address {ADDRESS}, ",
        ),
        (
            {"to": b"", "gas_limit": 900_000, "calldata": bytes(49_153)},
            "max initcode size exceeded: code size 49153, limit 49152",
        ),
    ],
)
def test_what_can_never_execute_is_refused(changes: dict[str, object], text: str) -> None:
    payload = signed(**changes)
    flaw = static_flaw(payload, decoded(payload), PARAMS)
    assert flaw.startswith(text)
    assert bool(flaw) == bool(text)


RICH = Account(3, 10**18, has_code=False)


@pytest.mark.parametrize(
    ("plan", "account", "next_nonce", "text"),
    [
        (LegPlan(chain=CHAIN, nonce=3), RICH, 3, ""),
        (LegPlan(chain=CHAIN, nonce=5), RICH, 5, ""),
        (LegPlan(chain=CHAIN, nonce=2), RICH, 3, f"nonce too low: address {ADDRESS}, tx: 2 state: 3"),
        (LegPlan(chain=CHAIN, nonce=4), RICH, 3, f"nonce too high: address {ADDRESS}, tx: 4 state: 3 pending: 3"),
        (LegPlan(chain=CHAIN, nonce=3), RICH, 4, "replacement transaction underpriced"),
        (
            LegPlan(chain=CHAIN, nonce=3, value=10**18 + 1),
            RICH,
            3,
            f"insufficient funds for gas * price + value: address {ADDRESS} have 1000000000000000000 want",
        ),
        (LegPlan(chain=CHAIN, nonce=3), RICH._replace(has_code=True), 3, "sender not an eoa"),
    ],
)
def test_what_cannot_execute_next_is_refused(plan: LegPlan, account: Account, next_nonce: int, text: str) -> None:
    flaw = account_flaw(decoded(sign(plan.unsigned(), KEYS[0])), account, next_nonce=next_nonce)
    assert flaw.startswith(text)
    assert bool(flaw) == bool(text)
