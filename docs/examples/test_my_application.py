"""Tests of a cross-rollup application, as `docs/testing-your-application.md` explains them."""

from web3 import Web3

from coordinator.bundle import contract_call
from coordinator.testing import LockstepTestnet


def test_both_legs_of_a_bundle_execute(lockstep_testnet: LockstepTestnet) -> None:
    """Two senders, two rollups, one bundle."""
    alice, bob = lockstep_testnet.accounts[:2]
    first, second = lockstep_testnet.rollups[:2]

    result = lockstep_testnet.send_bundle(
        [
            {"rollup": first.name, "sender": alice.address, "to": bob.address, "value": "0.5 ether"},
            {"rollup": second.name, "sender": bob.address, "to": alice.address, "value": "0.25 ether"},
        ],
        keys=[alice.private_key, bob.private_key],
    )

    assert result.outcome == "succeeded"
    assert result.fates == ["succeeded", "succeeded"]


def test_a_leg_can_revert_alone(lockstep_testnet: LockstepTestnet) -> None:
    """The rollups admit both legs; what each does is its own affair."""
    alice = lockstep_testnet.accounts[2]
    first, second = lockstep_testnet.rollups[:2]
    counter = lockstep_testnet.contracts["Counter"]
    wrong = contract_call("incrementIf(uint256,uint256)", 1, 99)  # the counter stands at 0, not at 99

    result = lockstep_testnet.send_bundle(
        [
            {"rollup": first.name, "sender": alice.address, "to": counter, "data": wrong, "gas": 120_000},
            {"rollup": second.name, "sender": alice.address, "to": alice.address},
        ],
        keys=[alice.private_key],
    )

    # Both legs were admitted: `inclusion` promises no more. What the application does about it is its own to test.
    assert result.fates == ["reverted", "succeeded"]
    assert result.outcome == "partly succeeded"


def test_balances(lockstep_testnet: LockstepTestnet) -> None:
    """Ordinary tools talk to a rollup."""
    w3 = Web3(Web3.HTTPProvider(lockstep_testnet.rollups[0].rpc_url))
    assert w3.eth.get_balance(Web3.to_checksum_address(lockstep_testnet.accounts[3].address)) > 0
