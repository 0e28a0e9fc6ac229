"""Methods about the cluster around a chain: identities, leaders, epochs, performance, supply.

The dev node plays all of its validators itself: they lead in turn and hold equal stake, no vote is a transaction, and
nobody is paid. Answers say so in the forms that explorers know.
"""

from collections import OrderedDict
from typing import Any

from solders.pubkey import Pubkey

from nodes.json_rpc.faults import RpcFault, invalid_params
from nodes.solana.devnode.bank import SLOTS_PER_EPOCH
from nodes.solana.devnode.rpc.errors import NO_SNAPSHOT
from nodes.solana.devnode.rpc.params import Config, Params, as_pubkey
from nodes.solana.devnode.rpc.programs import COMPUTE_BUDGET, VOTE
from nodes.solana.devnode.rpc.submission import SubmissionMethods
from nodes.solana.devnode.rpc.view import API_VERSION, FEATURE_SET, Handlers, Json, RpcView, Steps
from nodes.solana.devnode.values import ExecutedTransaction, Level

MAX_LEADERS = 5_000
MAX_SAMPLES = 720
SAMPLE_S = 60
MAX_FEE_ACCOUNTS = 128
FEE_BLOCKS = 150
LEADER_SLOTS = 4
STAKE_LAMPORTS = 1_000_000_000_000
"""Of each validator; a weight and no lamports of any account."""
_LAMPORTS_PER_SIGNATURE = 5_000
_SLOTS_PER_STEP = 8_000
_COMMITMENT_DEPTH = 32
_PRICE_TAG = 3
"""SetComputeUnitPrice of the compute budget program."""


class ClusterMethods:
    """What a chain says of its cluster."""

    def __init__(self, view: RpcView, submission: SubmissionMethods) -> None:
        self._view = view
        self._chain = view.chain
        self._submission = submission
        self._schedules: OrderedDict[int, Json] = OrderedDict()
        self._fees: OrderedDict[bytes, dict[Pubkey, int]] = OrderedDict()

    def table(self) -> Handlers:
        """Every method of this group by name."""
        return {
            "getHealth": lambda _params: self._submission.check_health(),
            "getVersion": lambda _params: {"solana-core": API_VERSION, "feature-set": FEATURE_SET},
            "getGenesisHash": lambda _params: str(self._chain.genesis_hash),
            "getIdentity": lambda _params: {"identity": str(self._chain.validators[0])},
            "getHighestSnapshotSlot": self.no_snapshot,
            "getMaxRetransmitSlot": lambda _params: self._chain.open_slot,
            "getMaxShredInsertSlot": lambda _params: self._chain.open_slot,
            "getEpochInfo": self.epoch_info,
            "getEpochSchedule": self.epoch_schedule,
            "getSlotLeader": self.slot_leader,
            "getSlotLeaders": self.slot_leaders,
            "getLeaderSchedule": self.leader_schedule,
            "getVoteAccounts": self.vote_accounts,
            "getClusterNodes": self.cluster_nodes,
            "getBlockProduction": self.block_production,
            "getBlockCommitment": self.block_commitment,
            "getRecentPerformanceSamples": self.performance_samples,
            "getRecentPrioritizationFees": self.prioritization_fees,
            "getInflationGovernor": self.inflation_governor,
            "getInflationRate": self.inflation_rate,
            "getInflationReward": self.inflation_reward,
            "getStakeMinimumDelegation": self.minimum_delegation,
            "getSupply": self.supply,
        }

    def no_snapshot(self, _params: Params) -> Any:
        """A dev node's ledger is all it keeps."""
        raise RpcFault(NO_SNAPSHOT, "No snapshot")

    # Epochs and leaders.

    def epoch_info(self, params: Params) -> Json:
        """Where the chain is in its epoch."""
        level = self._view.level_of(params.config(0))
        slot = self._chain.slot(level)
        return {
            "absoluteSlot": slot,
            "blockHeight": self._chain.block_height(level),
            "epoch": slot // SLOTS_PER_EPOCH,
            "slotIndex": slot % SLOTS_PER_EPOCH,
            "slotsInEpoch": SLOTS_PER_EPOCH,
            "transactionCount": self._chain.transaction_count,
        }

    def epoch_schedule(self, _params: Params) -> Json:
        """Epochs of equal length from the first slot on."""
        return {
            "slotsPerEpoch": SLOTS_PER_EPOCH,
            "leaderScheduleSlotOffset": SLOTS_PER_EPOCH,
            "warmup": False,
            "firstNormalEpoch": 0,
            "firstNormalSlot": 0,
        }

    def slot_leader(self, params: Params) -> str:
        """Who leads the newest slot of a commitment."""
        return str(self._chain.leader(self._chain.slot(self._view.level_of(params.config(0)))))

    def slot_leaders(self, params: Params) -> list[str]:
        """Who leads the slots from one on."""
        start, limit = params.number(0), params.number(1)
        if not 1 <= limit <= MAX_LEADERS:
            raise invalid_params(f"Invalid limit; max {MAX_LEADERS}")
        return [str(self._chain.leader(start + offset)) for offset in range(limit)]

    def leader_schedule(self, params: Params) -> Steps:
        """Slots of each validator in an epoch, as indexes into it; null for an epoch too far ahead."""
        slot = params.optional_number(0)
        config = params.config(0 if isinstance(params.get(0), dict) else 1)
        level = config.level()
        identity = config.text("identity")
        wanted = None if identity is None else str(as_pubkey(identity))
        now = self._chain.slot(level)
        epoch = (now if slot is None else slot) // SLOTS_PER_EPOCH
        if epoch > now // SLOTS_PER_EPOCH + 1:
            return None
        if epoch not in self._schedules:
            self._schedules[epoch] = yield from self._schedule(epoch)
            if len(self._schedules) > 2:
                self._schedules.popitem(last=False)
        schedule = self._schedules[epoch]
        return schedule if wanted is None else {key: slots for key, slots in schedule.items() if key == wanted}

    def _schedule(self, epoch: int) -> Steps:
        first = epoch * SLOTS_PER_EPOCH
        schedule: dict[Pubkey, list[int]] = {}
        for index in range(0, SLOTS_PER_EPOCH, LEADER_SLOTS):
            if index % _SLOTS_PER_STEP == 0:
                yield
            slots = schedule.setdefault(self._chain.leader(first + index), [])
            slots.extend(range(index, index + LEADER_SLOTS))
        return {str(key): slots for key, slots in schedule.items()}

    def vote_accounts(self, params: Params) -> Json:
        """The validators. Their votes are not transactions here, so the vote accounts exist by name only."""
        config = params.config(0)
        level = self._view.level_of(config)
        chosen = config.text("votePubkey")
        program = Pubkey.from_string(VOTE)
        current = [
            {
                "votePubkey": str(Pubkey.create_with_seed(validator, "vote", program)),
                "nodePubkey": str(validator),
                "activatedStake": STAKE_LAMPORTS,
                "epochVoteAccount": True,
                "commission": 0,
                "lastVote": self._chain.slot(level),
                "epochCredits": [],
                "rootSlot": self._chain.slot("finalized"),
            }
            for validator in self._chain.validators
        ]
        return {"current": [vote for vote in current if chosen in (None, vote["votePubkey"])], "delinquent": []}

    def cluster_nodes(self, _params: Params) -> list[Json]:
        """The validators; none has an address of its own."""
        ports = (
            "gossip",
            "pubsub",
            "rpc",
            "serveRepair",
            "tpu",
            "tpuForwards",
            "tpuForwardsQuic",
            "tpuQuic",
            "tpuVote",
        )
        return [
            {"pubkey": str(validator), "version": API_VERSION, "featureSet": FEATURE_SET, "shredVersion": 1}
            | dict.fromkeys((*ports, "tvu"))
            for validator in self._chain.validators
        ]

    def block_production(self, params: Params) -> Steps:
        """Slots that each validator led, and in how many of them it made a block."""
        config = params.config(0)
        level = self._view.level_of(config)
        first, last = self._range(config.inner("range"), level)
        identity = config.text("identity")
        wanted = None if identity is None else as_pubkey(identity)
        made = set(self._chain.blocks_between(first, last, level))
        production: dict[str, list[int]] = {}
        for slot in range(first, last + 1):
            if slot % _SLOTS_PER_STEP == 0:
                yield
            leader = self._chain.leader(slot)
            if wanted in {None, leader}:
                counts = production.setdefault(str(leader), [0, 0])
                counts[0] += 1
                counts[1] += slot in made
        value = {"byIdentity": production, "range": {"firstSlot": first, "lastSlot": last}}
        return self._view.with_context(level, value)

    def _range(self, span: Config | None, level: Level) -> tuple[int, int]:
        """First and last slot that a request is about, of the current epoch. Raises RpcFault."""
        newest = self._chain.slot(level)
        oldest = max(self._chain.first_slot, newest // SLOTS_PER_EPOCH * SLOTS_PER_EPOCH)
        if span is None:
            return oldest, newest
        asked_first, asked_last = span.count("firstSlot"), span.count("lastSlot")
        if asked_first is None or asked_first < oldest:
            raise invalid_params(f"firstSlot, {asked_first}, is too small; min {oldest}")
        last = newest if asked_last is None else asked_last
        if last > newest:
            raise invalid_params(f"lastSlot, {last}, is too large; max {newest}")
        if last < asked_first:
            raise invalid_params(f"lastSlot, {last}, cannot be less than firstSlot, {asked_first}")
        return asked_first, last

    def block_commitment(self, params: Params) -> Json:
        """Stake that has voted on a block, by the number of confirmations; null once it is finalized."""
        slot, total = params.number(0), STAKE_LAMPORTS * len(self._chain.validators)
        depth = self._chain.slot("processed") - slot
        is_recent = self._chain.slot("finalized") < slot and depth >= 0 and self._chain.block(slot) is not None
        if not is_recent:
            return {"commitment": None, "totalStake": total}
        stakes = [0] * _COMMITMENT_DEPTH
        stakes[min(depth, _COMMITMENT_DEPTH) - 1] = total
        return {"commitment": stakes, "totalStake": total}

    # Performance and fees.

    def performance_samples(self, params: Params) -> Steps:
        """Slots and transactions of each of the last minutes of the chain's own time, newest first."""
        limit = params.optional_number(0)
        limit = MAX_SAMPLES if limit is None else limit
        if limit > MAX_SAMPLES:
            raise invalid_params(f"Invalid limit; max {MAX_SAMPLES}")
        samples: list[Json] = []
        end = self._chain.slot("confirmed")
        while len(samples) < limit and end > self._chain.first_slot:
            start_s = self._chain.time_of(end) - SAMPLE_S
            start, count = end, 0
            while start > self._chain.first_slot and self._chain.time_of(start) > start_s:
                block = self._chain.block(start)
                count += 0 if block is None else len(block.transactions)
                start -= 1
            sample = {"slot": end, "numSlots": end - start, "samplePeriodSecs": SAMPLE_S}
            samples.append(sample | {"numTransactions": count, "numNonVoteTransactions": count})
            end = start
            yield
        return samples

    def prioritization_fees(self, params: Params) -> Steps:
        """The least price, in micro-lamports per compute unit, at which each of the last blocks wrote the accounts."""
        wanted = []
        if params.get(0) is not None:
            wanted = [as_pubkey(item) for item in params.items(0, at_most=MAX_FEE_ACCOUNTS)]
        newest = self._chain.slot("processed")
        answer = []
        for slot in self._chain.blocks_between(max(0, newest - FEE_BLOCKS), newest, "processed"):
            block = self._chain.block(slot)
            if block is None:
                continue
            key = bytes(block.blockhash)
            least = self._fees.get(key)
            if least is None:
                least = self._fees[key] = _least_prices(block.transactions)
                if len(self._fees) > 2 * FEE_BLOCKS:
                    self._fees.popitem(last=False)
                yield
            fee = max([least.get(account, 0) for account in wanted], default=min(least.values(), default=0))
            answer.append({"slot": slot, "prioritizationFee": fee})
        return answer

    # Inflation and supply.

    def inflation_governor(self, _params: Params) -> Json:
        """There is no inflation."""
        return dict.fromkeys(("initial", "terminal", "taper", "foundation", "foundationTerm"), 0.0)

    def inflation_rate(self, _params: Params) -> Json:
        """There is no inflation."""
        epoch = self._chain.slot("finalized") // SLOTS_PER_EPOCH
        return {"total": 0.0, "validator": 0.0, "foundation": 0.0, "epoch": epoch}

    def inflation_reward(self, params: Params) -> list[None]:
        """Nobody is rewarded."""
        addresses = [as_pubkey(item) for item in params.items(0, at_most=MAX_LEADERS)]
        self._view.level_of(params.config(1))
        return [None] * len(addresses)

    def minimum_delegation(self, params: Params) -> Json:
        """Lamports, as on mainnet."""
        return self._view.with_context(self._view.level_of(params.config(0)), 1)

    def supply(self, params: Params) -> Json:
        """Every lamport there was at genesis. Fees are burned, and nobody counts them."""
        config = params.config(0)
        level = self._view.level_of(config)
        total = self._chain.config.faucet_lamports
        value = {"total": total, "circulating": total, "nonCirculating": 0, "nonCirculatingAccounts": []}
        return self._view.with_context(level, value)


def _least_prices(transactions: tuple[ExecutedTransaction, ...]) -> dict[Pubkey, int]:
    """For each account that a block wrote, the least price at which a transaction did."""
    least: dict[Pubkey, int] = {}
    for transaction in transactions:
        signatures = transaction.decoded.header.num_required_signatures
        # Most pay no priority at all, which the fee alone tells.
        paid = transaction.fee_lamports > _LAMPORTS_PER_SIGNATURE * signatures
        price = _price(transaction) if paid else 0
        for key, is_writable in zip(transaction.accounts.keys, transaction.accounts.writable):
            if is_writable and price < least.get(key, price + 1):
                least[key] = price
    return least


def _price(transaction: ExecutedTransaction) -> int:
    for instruction in transaction.decoded.message.instructions:
        program = transaction.decoded.static_keys[instruction.program_id_index]
        data = bytes(instruction.data)
        if data[:1] == bytes((_PRICE_TAG,)) and str(program) == COMPUTE_BUDGET:
            return int.from_bytes(data[1:9], "little")
    return 0
