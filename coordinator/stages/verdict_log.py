"""The verdicts of a run with the reports behind them: copied from the aggregation layer, read back, evaluated again.

Checking takes nothing from the resolver but its words (`nodes.rules.evaluation`). It does not execute anything;
`lockstep verify` does.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.stages.sequenced_log import read_records
from nodes.model.agglayer import AgglayerParams
from nodes.model.errors import InvalidVerdict
from nodes.model.ids import Height, RollupId
from nodes.model.verdict import MailboxEvent, NoticeKind, NoticePosted, VerdictRef, VerdictSigned
from nodes.rules.evaluation import EvaluatedVerdict, VerdictReader
from nodes.rules.verdict import NO_VERDICT, decode_verdict
from nodes.wire.mailbox import MailboxClient
from nodes.wire.mailbox_messages import mailbox_event_from_bytes, mailbox_event_to_bytes
from nodes.wire.trace_records import encode_length

COPY_TIMEOUT_S = 30.0


async def copy_verdicts(address: str, path: Path, *, up_to: int, timeout_s: float = COPY_TIMEOUT_S) -> int:
    """Write every verdict up to a sequenced height; the height that was reached, which is less where time ran out.

    Rounds of heights without a verdict are left out. Raises Unavailable, InvalidVerdict.
    """
    reached = 0
    with path.open("wb") as file:
        if not up_to:
            return 0
        try:
            async with asyncio.timeout(timeout_s), MailboxClient(address) as client:
                async with aclosing(client.follow(VerdictRef(0, Height(0), NO_VERDICT))) as events:
                    async for event in events:
                        if isinstance(event, VerdictSigned | NoticePosted):
                            data = mailbox_event_to_bytes(event)
                            file.write(encode_length(len(data)) + data)
                        if isinstance(event, VerdictSigned):
                            reached = decode_verdict(event.signed.verdict).height
                            if reached >= up_to:
                                return reached
        except TimeoutError:
            pass
    return reached


def read_verdicts(path: Path) -> Iterator[MailboxEvent]:
    """Every event of a stored log, in order. Raises InvalidInput where the file is missing or cut short."""
    return map(mailbox_event_from_bytes, read_records(path, what="event"))


@dataclass(slots=True, kw_only=True)
class VerdictLog:
    """The verdicts that stand at the end of a log, each evaluated again from its reports."""

    by_height: dict[int, EvaluatedVerdict] = field(default_factory=dict)
    reports: int = 0
    problem: str = ""
    """What is wrong with the log; nothing after it is believed."""

    @classmethod
    def check(
        cls,
        events: Iterable[MailboxEvent],
        touched: Mapping[int, Sequence[RollupId]],
        params: AgglayerParams,
        *,
        chain_id: bytes,
    ) -> "VerdictLog":
        """Evaluate a whole log. `touched`: the rollups with payloads, by sequenced height."""
        log, reader = cls(), VerdictReader(chain_id=chain_id, params=params)
        for event in events:
            try:
                if isinstance(event, NoticePosted):
                    notice = reader.take_notice(event.signed)
                    if notice.kind is NoticeKind.VOID:
                        log.by_height = {at: found for at, found in log.by_height.items() if at < notice.height}
                elif isinstance(event, VerdictSigned):
                    height = decode_verdict(event.signed.verdict).height
                    found = reader.take_verdict(event.signed, event.rounds, touched=touched.get(height, ()))
                    log.by_height[height] = found
                    log.reports += sum(len(reports) for reports in event.rounds)
            except InvalidVerdict as error:
                log.problem = str(error)
                break
        return log
