"""The dev node's chain against a model that keeps whole states, under random submissions, ticks, skips and forks.

The model knows transfers, fees, blockhash ages and duplicates, and keeps a copy of every balance per block. The chain
keeps pre-images and one VM; both must say the same at every level after every step, and so must a chain that replays
the ledger.
"""

from dataclasses import dataclass, field
from random import Random

import pytest
from solders.hash import Hash

from nodes.model.solana import SolanaTiming
from nodes.solana.devnode.chain import Chain
from nodes.solana.devnode.config import ChainConfig
from nodes.solana.devnode.values import LEVELS, LedgerEntry, Level, Reinclude
from tests.support.solana_transactions import SOL, keypair, transfer_of

USERS = [keypair(f"user {index}") for index in range(5)]
FEE = 5_000
STEPS = 250
TIMING = SolanaTiming(confirm_slots=2, finalize_slots=9)


@dataclass
class Sent:
    """A transfer that was submitted."""

    raw: bytes
    signature: str
    sender: int
    receiver: int
    lamports: int
    blockhash: Hash


@dataclass
class Block:
    """A frozen block as the model knows it."""

    slot: int
    blockhash: Hash
    sent: list[Sent]
    balances: list[int]
    """After it."""
    failed: set[str]
    """Signatures of the transfers that failed, here and before."""


@dataclass
class Model:
    """A chain of whole states."""

    blocks: list[Block]
    open_slot: int
    balances: list[int]
    failed: set[str] = field(default_factory=set)
    open_sent: list[Sent] = field(default_factory=list)
    waiting: list[Sent] = field(default_factory=list)
    skips_left: int = 0
    marks: dict[Level, int] = field(default_factory=dict)

    def offer(self, sent: Sent) -> None:
        landed = {each.signature for block in self.blocks for each in block.sent}
        landed |= {each.signature for each in (*self.open_sent, *self.waiting)}
        height = next((at for at, block in enumerate(self.blocks) if block.blockhash == sent.blockhash), None)
        if sent.signature in landed or height is None or len(self.blocks) - height > 150:
            return
        if self.skips_left:
            self.waiting.append(sent)
            return
        self.balances[sent.sender] -= FEE
        if self.balances[sent.sender] >= sent.lamports:
            self.balances[sent.sender] -= sent.lamports
            self.balances[sent.receiver] += sent.lamports
        else:
            self.failed = self.failed | {sent.signature}
        self.open_sent.append(sent)

    def tick(self, blockhash: Hash) -> None:
        if self.skips_left:
            self.skips_left -= 1
        else:
            self.blocks.append(Block(self.open_slot, blockhash, self.open_sent, list(self.balances), self.failed))
            for level, distance in (("confirmed", TIMING.confirm_slots), ("finalized", TIMING.finalize_slots)):
                old = [block.slot for block in self.blocks if block.slot <= self.open_slot - distance]
                reached = max(old, default=self.blocks[0].slot)
                self.marks[level] = max(self.marks[level], reached)  # type: ignore[index]
            self.open_sent = []
        self.open_slot += 1
        self.offer_waiting()

    def skip(self, slots: int) -> None:
        self.take_back()
        self.skips_left += slots

    def take_back(self) -> None:
        taken, self.open_sent = self.open_sent, []
        self.balances, self.failed = list(self.blocks[-1].balances), self.blocks[-1].failed
        self.waiting = taken + self.waiting

    def fork(self, depth: int, order: list[str] | None) -> None:
        """`order` = signatures of what is included again, None for nothing."""
        lost = [sent for block in self.blocks[len(self.blocks) - depth :] for sent in block.sent] + self.open_sent
        del self.blocks[len(self.blocks) - depth :]
        self.open_sent = []
        self.balances, self.failed = list(self.blocks[-1].balances), self.blocks[-1].failed
        if order is not None:
            by_signature = {sent.signature: sent for sent in lost}
            assert sorted(order) == sorted(by_signature)
            self.waiting = [by_signature[each] for each in order] + self.waiting
        self.open_slot += 1
        self.offer_waiting()

    def offer_waiting(self) -> None:
        if not self.skips_left:
            waiting, self.waiting = self.waiting, []
            for sent in waiting:
                self.offer(sent)

    def at(self, level: Level) -> tuple[list[int], set[str]]:
        """Balances and failed transfers at a level."""
        if level == "processed":
            return self.balances, self.failed
        block = next(block for block in reversed(self.blocks) if block.slot <= self.marks[level])
        return block.balances, block.failed

    def level_of(self, signature: str) -> tuple[int, Level] | None:
        slots = [(block.slot, block.sent) for block in self.blocks] + [(self.open_slot, self.open_sent)]
        slot = next((slot for slot, sent in slots if signature in {each.signature for each in sent}), None)
        if slot is None:
            return None
        if slot <= self.marks["finalized"]:
            return slot, "finalized"
        return slot, "confirmed" if slot <= self.marks["confirmed"] else "processed"


def check(chain: Chain, model: Model, sent: list[Sent]) -> None:
    """Both say the same at every level and of every transfer."""
    for level in LEVELS:
        balances, _ = model.at(level)
        accounts = chain.accounts([user.pubkey() for user in USERS], level)
        assert [account.lamports if account else 0 for account in accounts] == balances, level
    for each in sent:
        status, expected = chain.status_of(each.signature), model.level_of(each.signature)
        if status is None or expected is None:
            assert status is None
            assert expected is None
        else:
            assert (status.slot, status.level) == expected
            assert (status.error is not None) == (each.signature in model.failed)


def same(one: Chain, other: Chain) -> None:
    """Two chains that differ in nothing but their open slots."""
    assert one.tip.blockhash == other.tip.blockhash
    for level in ("confirmed", "finalized"):
        assert one.slot(level) == other.slot(level)
        keys = [user.pubkey() for user in USERS]
        assert one.accounts(keys, level) == other.accounts(keys, level)
    for slot in range(one.first_slot, one.tip.slot + 1):
        mine, theirs = one.block(slot), other.block(slot)
        if mine is None or theirs is None:
            assert mine is theirs
        else:
            assert mine.blockhash == theirs.blockhash
            ours = [(item.signature, item.error, item.post_balances, item.logs) for item in mine.transactions]
            assert ours == [(item.signature, item.error, item.post_balances, item.logs) for item in theirs.transactions]


class Schedule:
    """One random run."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.entries: list[LedgerEntry] = []
        self.config = ChainConfig(seed=seed, timing=TIMING)
        self.chain = Chain(self.config, record=self.entries.append)
        self.hashes: list[Hash] = []
        self.sent: list[Sent] = []
        for user in USERS:
            self.chain.airdrop(user.pubkey(), 20 * SOL)
        self.chain.tick(12)
        # The model begins with whole blocks that it need not know: as many as heights.
        blocks = []
        for slot in self.chain.blocks_between(0, self.chain.tip.slot, "processed"):
            block = self.chain.block(slot)
            assert block is not None
            balances = [20 * SOL] * len(USERS) if block.height else [0] * len(USERS)
            blocks.append(Block(slot, block.blockhash, [], balances, set()))
        self.model = Model(blocks, self.chain.open_slot, list(blocks[-1].balances))
        self.model.marks = {level: self.chain.slot(level) for level in ("confirmed", "finalized")}

    def step(self) -> None:
        choice = self.random.random()
        if choice < 0.55:
            self.submit()
        elif choice < 0.85:
            self.chain.tick()
            self.model.tick(self.chain.tip.blockhash)
        elif choice < 0.9:
            slots = self.random.randint(1, 4)
            self.chain.skip(slots)
            self.model.skip(slots)
        else:
            self.fork()
        self.hashes.append(self.chain.tip.blockhash)

    def submit(self) -> None:
        random = self.random
        if self.sent and random.random() < 0.3:
            again = random.choice(self.sent)
            self.chain.submit(again.raw)
            self.model.offer(again)
            return
        sender, receiver = random.sample(range(len(USERS)), 2)
        blockhash = random.choice(self.hashes[-12:]) if self.hashes else self.chain.tip.blockhash
        lamports = random.choice((SOL, 3 * SOL, 50 * SOL))
        raw = transfer_of(USERS[sender], USERS[receiver].pubkey(), lamports, blockhash, nonce=len(self.sent))
        sent = Sent(raw, self.chain.submit(raw), sender, receiver, lamports, blockhash)
        self.model.offer(sent)
        self.sent.append(sent)

    def fork(self) -> None:
        possible = len(self.chain.blocks_between(self.chain.slot("finalized") + 1, self.chain.tip.slot, "processed"))
        depth = self.random.randint(0, possible)
        choices: tuple[Reinclude, ...] = ("same", "shuffled", "none")
        reinclude = self.random.choice(choices)
        forked = self.chain.fork(depth, reinclude)
        order: list[str] | None = list(forked.abandoned_signatures)
        if reinclude == "none":
            order = None
        elif reinclude == "shuffled":
            assert order is not None
            now = [item.signature for item in self.chain._open.transactions]
            waiting = [*self.chain._pending] if self.chain.faults.skips_left else []
            back = [each for each in (*waiting, *now) if each in order]
            order = back + [each for each in order if each not in back]
        self.model.fork(depth, order)


@pytest.mark.parametrize("seed", range(12))
def test_the_chain_agrees_with_a_model_of_whole_states_and_with_its_replay(seed: int) -> None:
    schedule = Schedule(seed)
    for _ in range(STEPS):
        schedule.step()
        check(schedule.chain, schedule.model, schedule.sent)
    replayed = Chain(schedule.config)
    for entry in schedule.entries:
        replayed.replay(entry)
    same(schedule.chain, replayed)
