"""The client library: build a bundle, let every sender sign its own legs, submit it, follow it.

    from coordinator.bundle import Bundle, Client

    async with Client.of_directory("runs/up-quick-20260101-120000") as client:
        bundle = await client.build([
            {"rollup": "rollup-1", "sender": alice, "to": bob, "value": 1},
            {"rollup": "rollup-2", "sender": carol, "to": dave, "value": 2},
        ])
        bundle = bundle.sign(alice_key).sign(carol_key)
        await bundle.submit(client)
        async for event in client.follow(bundle):
            print(event)

It sends and asks; it starts nothing and keeps nothing.
"""

from coordinator.bundle.bundle import Bundle, BundleLeg, Submitter
from coordinator.bundle.client import Client, LifeEvent, RollupAccess
from coordinator.bundle.contract_call import contract_call
from coordinator.bundle.legs import LegSpec

__all__ = ["Bundle", "BundleLeg", "Client", "LegSpec", "LifeEvent", "RollupAccess", "Submitter", "contract_call"]
