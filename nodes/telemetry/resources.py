"""What processes used so far, read from /proc: CPU seconds and proportional set size.

PSS counts a page shared by n processes as 1/n in each, so that the figures of many processes add up.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from nodes.telemetry.events import ResourcesSampled

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_KIB = 1024


def process_cpu_s(pid: int) -> float:
    """User and system CPU seconds of a process so far, all threads; 0 where it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    # The name in parentheses may itself hold spaces and parentheses.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def process_pss_bytes(pid: int) -> int:
    """Proportional set size; 0 where the process has ended or belongs to another user."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    for line in rollup.splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * _KIB
    return 0


def sample(
    *, engine_pid: int = 0, wire_bytes_in: int = 0, wire_bytes_out: int = 0, stage_cpu_ns: Mapping[str, int]
) -> ResourcesSampled:
    """Totals of this process and of one engine process (0 = none).

    Reading `smaps_rollup` walks the page tables, about 1 ms per 100 MB: sample once a second, not per block.
    """
    return ResourcesSampled(
        process_cpu_s=process_cpu_s(os.getpid()),
        process_pss_bytes=process_pss_bytes(os.getpid()),
        engine_cpu_s=process_cpu_s(engine_pid) if engine_pid else 0.0,
        engine_pss_bytes=process_pss_bytes(engine_pid) if engine_pid else 0,
        wire_bytes_in=wire_bytes_in,
        wire_bytes_out=wire_bytes_out,
        stage_cpu_ns=dict(stage_cpu_ns),
    )
