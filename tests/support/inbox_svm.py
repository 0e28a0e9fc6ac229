"""The inbox program on a bare SVM: no chain, no RPC, every transaction its own blockhash."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from solders.account import Account
from solders.keypair import Keypair
from solders.litesvm import LiteSVM
from solders.pubkey import Pubkey as SoldersPubkey
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import FailedTransactionMetadata, TransactionMetadata

from nodes.model.ids import RollupId, rollup_id_of
from nodes.model.solana import InboxState, Pubkey, Slot
from nodes.rules import inbox as codec
from nodes.solana.keypairs import keypair_from_bytes
from nodes.solana.program import Inbox, inbox_address, init_calls, posting_call, read_elf
from nodes.solana.system_calls import LOOKUP_TABLE_ID, TABLE_ACTIVE
from nodes.solana.transactions import NO_BUDGET, AccountUse, Budget, Call, LookupTable, build

PROGRAM_ID = Pubkey(b"\x07" * 32)
CALLER_ID = Pubkey(b"\x08" * 32)
CALLER_FILE = Path(__file__).with_name("inbox_caller.so")
FIRST_SLOT = 1_000


class InboxSvm:
    """One SVM with mainnet's features, the program, and a rich payer."""

    def __init__(self, version: str = "v3", *, rollups: int = 0) -> None:
        self.svm = LiteSVM().with_mainnet_features()
        self.payer = keypair_from_bytes(b"\x01" * 32)
        self.payer_key = Pubkey(bytes(self.payer.pubkey()))
        self.svm.airdrop(self.payer.pubkey(), 10**12)
        self.svm.warp_to_slot(FIRST_SLOT)
        self.svm.add_program(solders_key(PROGRAM_ID), read_elf(version))
        self.rent = self.svm.minimum_balance_for_rent_exemption(codec.STATE_BYTES)
        self.rollup_ids = tuple([rollup_id_of(number) for number in range(1, rollups + 1)])
        for rollup_id in self.rollup_ids:
            assert isinstance(self.init(rollup_id), TransactionMetadata)
        self.inbox = Inbox(
            program_id=PROGRAM_ID,
            accounts={rollup_id: address_of(rollup_id) for rollup_id in self.rollup_ids},
            rollup_ids=self.rollup_ids,
            lookup_table=None,
            origin_slot=Slot(FIRST_SLOT),
        )

    def init(self, rollup_id: RollupId) -> TransactionMetadata | FailedTransactionMetadata:
        return self.send(init_calls(self.payer_key, PROGRAM_ID, rollup_id, lamports=self.rent))

    def post(
        self, data: bytes, rollup_ids: Sequence[RollupId], *, budget: Budget = NO_BUDGET
    ) -> TransactionMetadata | FailedTransactionMetadata:
        return self.send([posting_call(self.payer_key, self.inbox, rollup_ids, data)], budget=budget)

    def send(
        self,
        calls: Sequence[Call],
        *,
        payer: Keypair | None = None,
        signers: Sequence[Keypair] = (),
        budget: Budget = NO_BUDGET,
        tables: Sequence[LookupTable] = (),
    ) -> TransactionMetadata | FailedTransactionMetadata:
        self.svm.expire_blockhash()
        blockhash = bytes(self.svm.latest_blockhash())
        signed = build(payer or self.payer, calls, blockhash=blockhash, budget=budget, tables=tables, signers=signers)
        return self.svm.send_transaction(VersionedTransaction.from_bytes(signed.raw))

    def state(self, rollup_id: RollupId) -> InboxState:
        found = codec.decode_state(self.account(address_of(rollup_id)))
        assert found is not None
        assert found[0] == rollup_id
        return found[1]

    def states(self) -> Mapping[RollupId, InboxState]:
        return {rollup_id: self.state(rollup_id) for rollup_id in self.rollup_ids}

    def account(self, key: Pubkey) -> bytes:
        found = self.svm.get_account(solders_key(key))
        assert found is not None
        return bytes(found.data)

    def put(self, key: Pubkey, *, owner: Pubkey, data: bytes, lamports: int = 10**9) -> None:
        """Write an account past every rule."""
        account = Account(lamports=lamports, data=data, owner=solders_key(owner), executable=False, rent_epoch=0)
        self.svm.set_account(solders_key(key), account)

    def make_table(self, addresses: Sequence[Pubkey]) -> LookupTable:
        """A lookup table as the chain's own program leaves it, active at once."""
        key = Pubkey(b"\x0a" * 32)
        head = struct.pack("<IQQBB32s2x", 1, TABLE_ACTIVE, 1, 0, 1, self.payer_key)
        self.put(key, owner=LOOKUP_TABLE_ID, data=head + b"".join(addresses))
        return LookupTable(key, tuple(addresses))

    def raw_call(self, data: bytes, *uses: AccountUse) -> Call:
        """One instruction of the program, its payer in front."""
        return Call(PROGRAM_ID, (AccountUse(self.payer_key, is_signer=True, is_writable=True), *uses), data)


def address_of(rollup_id: RollupId) -> Pubkey:
    return inbox_address(PROGRAM_ID, rollup_id)[0]


def solders_key(key: bytes) -> SoldersPubkey:
    return SoldersPubkey.from_bytes(key)
