"""Brings the inbox onto a Solana chain: the program, an account for every rollup, and a lookup table of them.

Every step asks the chain what is there and sends what is missing. So it goes on after an interruption anywhere, and a
second call sends nothing. Uses the chain's real loader; sources: solana.com/docs/core/programs, Agave's
`loader_v3::instruction` and `address_lookup_table::instruction`. It does not know what is posted later.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from solders.keypair import Keypair

from nodes.model.errors import InvalidInput, LimitExceeded, Unavailable
from nodes.model.ids import NOTICE_ROLLUP_ID, RollupId
from nodes.model.limits import MAX_ROLLUPS
from nodes.model.solana import PACKET_BYTES, Pubkey, Slot
from nodes.rules import inbox as codec
from nodes.rules.hashes import sha256
from nodes.solana import system_calls as system
from nodes.solana.confirming import Commitment, Confirmer, Job, Tick
from nodes.solana.keypairs import base58, derived_keypair, key_of
from nodes.solana.ports import SolanaRpc
from nodes.solana.program import Inbox, inbox_address, init_calls, initialized_slot, memo_inbox, read_elf
from nodes.solana.steps import Steps
from nodes.solana.transactions import TABLE_ADDRESSES_MAX, Budget, Call, LookupTable, draft, fee_lamports

DEADLINE_S = 180.0
ROUNDS_MAX = 8
"""How often a step looks, sends what is missing and looks again."""
RECENT_SLOTS = 256
"""A table may be made with one of the last 512 slots that have a block."""

# Compute units, measured and rounded up; a limit costs only where a price is set.
_CREATE_CU = 5_000
_WRITE_CU = 5_000
_DEPLOY_CU = 30_000
_INIT_CU = 6_500
_INIT_BUMP_CU = 1_500
"""For each bump that the program tries in vain."""
_TABLE_CU = 40_000

_log = logging.getLogger(__name__)

__all__ = ["Inbox", "deploy_inbox", "memo_inbox", "origin_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What is to stand on the chain, and where."""

    payer: Pubkey
    program: Keypair
    buffer: Keypair
    elf: bytes
    rollup_ids: tuple[RollupId, ...]
    price: int
    """Micro-lamports per compute unit."""

    @property
    def program_id(self) -> Pubkey:
        return key_of(self.program)

    @property
    def buffer_key(self) -> Pubkey:
        return key_of(self.buffer)

    def address(self, rollup_id: RollupId) -> Pubkey:
        return inbox_address(self.program_id, rollup_id)[0]

    def budget(self, cu_limit: int) -> Budget:
        return Budget(cu_limit=cu_limit, cu_price_micro_lamports=self.price)


async def deploy_inbox(
    rpc: SolanaRpc,
    payer: Keypair,
    rollup_ids: Collection[RollupId],
    *,
    program_keypair: Keypair,
    elf: bytes | None = None,
    lookup_table_record: Path | None = None,
    commitment: Commitment = "confirmed",
    tick: Tick | None = None,
    cu_price_micro_lamports: int = 0,
    progress: Callable[[str], None] = _log.info,
    deadline_s: float = DEADLINE_S,
) -> Inbox:
    """Return the inbox of these rollups and of the notices, deploying whatever of it is not on the chain yet.

    `program_keypair` gives the program's address: one for each testnet (see `derived_keypair`), since two testnets with
    one program would share the accounts of equal rollup ids. `elf` is `read_elf()` unless given. `lookup_table_record`
    is a file that remembers which lookup table is ours (without it, none is made). `tick` moves a dev node's clock by a
    slot where nothing else does.

    Raises InvalidInput where the payer lacks lamports (it says how many), or the address holds something else;
    Unavailable where nobody answers or `deadline_s` has passed; EngineFailure where a transaction fails on chain.
    """
    ids = tuple(sorted({*rollup_ids, NOTICE_ROLLUP_ID}))
    if len(ids) > MAX_ROLLUPS + 1:
        raise LimitExceeded(limit="rollups of a testnet", value=len(ids) - 1, maximum=MAX_ROLLUPS)
    elf = elf or read_elf()
    label = f"inbox buffer {key_of(program_keypair).hex()} {sha256(elf).hex()}"
    wanted = _Wanted(
        payer=key_of(payer),
        program=program_keypair,
        buffer=derived_keypair(payer, label),
        elf=elf,
        rollup_ids=ids,
        price=cu_price_micro_lamports,
    )
    confirmer = Confirmer(rpc, payer, commitment=commitment, tick=tick)
    steps = Steps(rpc, confirmer, commitment, progress)
    try:
        async with asyncio.timeout(deadline_s):
            return await _Deployment(wanted, steps, lookup_table_record).run()
    except TimeoutError:
        raise Unavailable(
            f"the inbox was not deployed within {deadline_s:g} s; it stopped at: {steps.at}. "
            "Start again: what is done is kept"
        ) from None
    finally:
        await confirmer.aclose()


class _Deployment:
    """One call of `deploy_inbox`."""

    def __init__(self, wanted: _Wanted, steps: Steps, record: Path | None) -> None:
        self._wanted = wanted
        self._steps = steps
        self._record = record
        self._is_slot_refused = False

    async def run(self) -> Inbox:
        wanted = self._wanted
        self._steps.say("reading what is there")
        is_deployed = await self._is_deployed()
        await self._check_funds(is_deployed=is_deployed)
        if not is_deployed:
            await self._deploy()
        await self._wait_program_active()
        origin_slot = await self._initialize_rollups()
        table = await self._prepare_table() if self._record is not None else None
        self._steps.say("the inbox stands")
        return Inbox(
            program_id=wanted.program_id,
            accounts={rollup_id: wanted.address(rollup_id) for rollup_id in wanted.rollup_ids},
            rollup_ids=wanted.rollup_ids,
            lookup_table=table,
            origin_slot=origin_slot,
        )

    # The program

    async def _is_deployed(self) -> bool:
        """Raises InvalidInput where something else stands at the program's address."""
        wanted = self._wanted
        name = base58(wanted.program_id)
        program = await self._steps.account(wanted.program_id)
        if program is None:
            return False
        if not system.is_program(program.owner, program.data):
            raise InvalidInput(f"the account {name} exists and is no program; give the inbox another program key")
        program_data = await self._program_data()
        if program_data is None:
            raise InvalidInput(f"the program {name} was closed and its address cannot be used again; give another one")
        code = program_data.code
        if code[: len(wanted.elf)] != wanted.elf or any(code[len(wanted.elf) :]):
            raise InvalidInput(
                f"the program {name} is deployed with other bytes than these {len(wanted.elf):,}; "
                "give the inbox another program key, or the version of the program that is deployed"
            )
        return True

    async def _program_data(self) -> system.ProgramData | None:
        account = await self._steps.account(system.program_data_address(self._wanted.program_id))
        return system.decode_program_data(account.owner, account.data) if account else None

    async def _check_funds(self, *, is_deployed: bool) -> None:
        """Raises InvalidInput where the payer has less than everything that is missing costs."""
        wanted = self._wanted
        keys = [wanted.payer, wanted.buffer_key, *[wanted.address(rollup_id) for rollup_id in wanted.rollup_ids]]
        payer, buffer, *rollups = await self._steps.accounts(keys)
        missing = sum([account is None or account.owner != wanted.program_id for account in rollups])
        sizes = (
            *(0, codec.STATE_BYTES, system.PROGRAM_BYTES, system.PROGRAM_DATA_HEAD_BYTES + len(wanted.elf)),
            system.table_bytes(min(len(wanted.rollup_ids), TABLE_ADDRESSES_MAX)),
        )
        own, state, program, program_data, table = await self._steps.rents(sizes)
        needed = missing * state
        transactions = -(-missing // 8)
        if not is_deployed:
            # The loader returns the buffer's rent before it takes that of the program's data, which is larger.
            needed += program + program_data - (buffer.lamports if buffer else 0)
            transactions += 4 + len(wanted.elf) // 900
        if self._record is not None and await self._known_table() is None:
            needed += table
            transactions += 2 + len(wanted.rollup_ids) // 24
        if not needed:
            return
        needed += own + transactions * fee_lamports(wanted.budget(_TABLE_CU), signatures=2)
        balance = payer.lamports if payer else 0
        if balance < needed:
            raise InvalidInput(
                f"the payer {base58(wanted.payer)} has {balance:,} lamports; to deploy the inbox it needs "
                f"{needed:,}. Send it {needed - balance:,} more"
            )

    async def _deploy(self) -> None:
        """Each round makes one step: the buffer, what it is to hold, the program."""
        wanted = self._wanted
        for _ in range(ROUNDS_MAX):
            # In this order: the deployment takes the buffer away.
            buffer = await self._steps.account(wanted.buffer_key)
            if await self._is_deployed():
                return
            if buffer is None:
                self._steps.say("creating the buffer")
                await self._steps.attempt([await self._creation_of_buffer()])
                continue
            if not system.is_buffer(buffer.owner, buffer.data, authority=wanted.payer, code_bytes=len(wanted.elf)):
                raise InvalidInput(
                    f"the account {base58(wanted.buffer_key)}, which is to be the program's buffer, holds something "
                    "else; give the inbox another program key"
                )
            missing = _missing_writes(buffer.data[system.BUFFER_HEAD_BYTES :], wanted)
            if missing:
                self._steps.say(f"writing the program ({len(missing)} transactions)")
                await self._steps.attempt(missing)
                continue
            self._steps.say(f"deploying the program {base58(wanted.program_id)}")
            await self._steps.attempt([await self._deployment_of_program()])
        raise Unavailable("the program was deployed and is not on the chain; was there a fork? Start again")

    async def _creation_of_buffer(self) -> Job:
        wanted = self._wanted
        size = system.BUFFER_HEAD_BYTES + len(wanted.elf)
        (rent,) = await self._steps.rents([size])
        create = system.create_account_call(
            wanted.payer, wanted.buffer_key, lamports=rent, size=size, owner=system.LOADER_ID
        )
        return Job(
            what="the creation of the program's buffer",
            calls=(create, system.initialize_buffer_call(wanted.buffer_key, wanted.payer)),
            budget=wanted.budget(_CREATE_CU),
            signers=(wanted.buffer,),
        )

    async def _deployment_of_program(self) -> Job:
        wanted = self._wanted
        size = system.PROGRAM_BYTES
        (rent,) = await self._steps.rents([size])
        create = system.create_account_call(
            wanted.payer, wanted.program_id, lamports=rent, size=size, owner=system.LOADER_ID
        )
        deploy = system.deploy_call(wanted.payer, wanted.program_id, wanted.buffer_key, code_bytes=len(wanted.elf))
        return Job(
            what="the deployment of the program",
            calls=(create, deploy),
            budget=wanted.budget(_DEPLOY_CU),
            signers=(wanted.program,),
        )

    async def _wait_program_active(self) -> None:
        program_data = await self._program_data()
        if program_data is None:
            raise Unavailable("the program is not on the chain any more; was there a fork? Start again")
        await self._steps.wait_beyond(program_data.slot)

    # The rollups

    async def _initialize_rollups(self) -> Slot:
        """Returns where the inbox begins, see `origin_of`."""
        wanted = self._wanted
        (rent,) = await self._steps.rents([codec.STATE_BYTES])
        for _ in range(ROUNDS_MAX):
            accounts = await self._steps.accounts([wanted.address(rollup_id) for rollup_id in wanted.rollup_ids])
            missing: list[tuple[RollupId, int]] = []
            for rollup_id, account in zip(wanted.rollup_ids, accounts, strict=True):
                if account is None or account.owner != wanted.program_id:
                    missing.append((rollup_id, max(0, rent - (account.lamports if account else 0))))
                    continue
                found = codec.decode_state(account.data)
                assert found, "only the program writes its accounts"
                assert found[0] == rollup_id, "and it does so at the address of the rollup"
            if not missing:
                return origin_of([account.data for account in accounts if account is not None])
            self._steps.say(f"initializing {len(missing)} rollups")
            await self._steps.attempt(_initializations(missing, wanted))
        raise Unavailable(f"{len(missing)} rollups were initialized and are not on the chain; was there a fork?")

    # The lookup table

    async def _prepare_table(self) -> LookupTable:
        """A table that holds the first rollups; those beyond its 256 stand in the transactions themselves."""
        wanted = self._wanted
        keys = [wanted.address(rollup_id) for rollup_id in wanted.rollup_ids[:TABLE_ADDRESSES_MAX]]
        for _ in range(ROUNDS_MAX):
            known = await self._known_table()
            if known is None:
                await self._create_table()
                continue
            address, table = known
            present = set(table.addresses)
            # An attempt that was interrupted may have added some twice: what finds no room stands in transactions.
            missing = [key for key in keys if key not in present][: TABLE_ADDRESSES_MAX - len(table.addresses)]
            if not missing:
                await self._steps.wait_beyond(table.extended_slot)
                return LookupTable(address, table.addresses)
            self._steps.say(f"adding {len(missing)} accounts to the lookup table {base58(address)}")
            await self._steps.attempt(_extensions(missing, address, wanted))
        raise Unavailable("the lookup table was filled and is not on the chain; was there a fork?")

    async def _known_table(self) -> tuple[Pubkey, system.Table] | None:
        """The table that the record names, where it is on the chain and ours."""
        slot = self._recorded_slot()
        if slot is None:
            return None
        address, _ = system.table_address(self._wanted.payer, slot)
        account = await self._steps.account(address)
        table = system.decode_table(account.owner, account.data) if account else None
        if table is None or table.deactivation_slot != system.TABLE_ACTIVE or table.authority != self._wanted.payer:
            return None
        return address, table

    async def _create_table(self) -> None:
        wanted = self._wanted
        slot = await self._steps.recent_slot()
        recorded = self._recorded_slot()
        if recorded is not None and slot - recorded < RECENT_SLOTS and not self._is_slot_refused:
            slot = recorded  # its transaction may be under way
        # Written before it is sent: a table whose slot is forgotten is not found again.
        self._write_record(slot)
        self._steps.say(f"creating the lookup table {base58(system.table_address(wanted.payer, slot)[0])}")
        call = system.create_table_call(wanted.payer, slot=slot)
        # The chain takes no table for the slot that is being made.
        await self._steps.wait_beyond(slot)
        job = Job(what="the creation of the lookup table", calls=(call,), budget=wanted.budget(_TABLE_CU))
        # A fork may have taken the slot's block away: then another slot is needed.
        self._is_slot_refused = not await self._steps.attempt([job])

    def _recorded_slot(self) -> int | None:
        assert self._record is not None
        try:
            said = json.loads(self._record.read_text(encoding="utf-8"))
            if said["program"] == base58(self._wanted.program_id) and type(said["table_slot"]) is int:
                return int(said["table_slot"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidInput(
                f"{self._record} does not say which lookup table is ours ({error}); delete it, and a new one is made"
            ) from error
        return None

    def _write_record(self, slot: int) -> None:
        assert self._record is not None
        said = {"program": base58(self._wanted.program_id), "table_slot": slot}
        fresh = self._record.with_suffix(".new")
        fresh.write_text(json.dumps(said), encoding="utf-8")
        fresh.replace(self._record)


def origin_of(accounts: Iterable[bytes]) -> Slot:
    """The last slot that cannot hold a posting, from the data of every account: the one before the first INIT.

    Not the last INIT: anybody may post to an account as soon as it stands, and readers must count that too.
    """
    return Slot(min(map(initialized_slot, accounts)) - 1)


def _missing_writes(content: bytes, wanted: _Wanted) -> list[Job]:
    """One transaction for each piece of the program that the buffer does not hold."""
    size = _write_size(wanted)
    return [
        Job(
            what=f"the program's bytes from {at:,}",
            calls=(_write_call(wanted, at, piece),),
            budget=wanted.budget(_WRITE_CU),
        )
        for at in range(0, len(wanted.elf), size)
        if content[at : at + size] != (piece := wanted.elf[at : at + size])
    ]


def _write_call(wanted: _Wanted, at: int, piece: bytes) -> Call:
    return system.write_call(wanted.buffer_key, wanted.payer, at=at, piece=piece)


def _write_size(wanted: _Wanted) -> int:
    """The largest piece that a transaction takes; its length then needs a second byte."""
    empty = draft(wanted.payer, [_write_call(wanted, 0, b"")], budget=wanted.budget(_WRITE_CU))
    return PACKET_BYTES - empty.size - 1


def _initializations(missing: Sequence[tuple[RollupId, int]], wanted: _Wanted) -> list[Job]:
    """As few transactions as the packet allows."""
    jobs: list[Job] = []
    calls: list[Call] = []
    cu_limit = 0
    for rollup_id, lamports in missing:
        more = init_calls(wanted.payer, wanted.program_id, rollup_id, lamports=lamports)
        cost = _INIT_CU + _INIT_BUMP_CU * (255 - inbox_address(wanted.program_id, rollup_id)[1])
        if calls and not _fits(wanted, [*calls, *more], cu_limit + cost):
            jobs.append(Job(what="the start of rollups", calls=tuple(calls), budget=wanted.budget(cu_limit)))
            calls, cu_limit = [], 0
        calls += more
        cu_limit += cost
    return [*jobs, Job(what="the start of rollups", calls=tuple(calls), budget=wanted.budget(cu_limit))]


def _extensions(missing: Sequence[Pubkey], table: Pubkey, wanted: _Wanted) -> list[Job]:
    """As few transactions as the packet allows; in which order they land makes no difference."""
    empty = draft(wanted.payer, [system.extend_table_call(table, wanted.payer, [])], budget=wanted.budget(_TABLE_CU))
    size = (PACKET_BYTES - empty.size - 1) // 32
    return [
        Job(
            what="the filling of the lookup table",
            calls=(system.extend_table_call(table, wanted.payer, missing[at : at + size]),),
            budget=wanted.budget(_TABLE_CU),
        )
        for at in range(0, len(missing), size)
    ]


def _fits(wanted: _Wanted, calls: Sequence[Call], cu_limit: int) -> bool:
    try:
        draft(wanted.payer, calls, budget=wanted.budget(cu_limit))
    except LimitExceeded:
        return False
    return True
