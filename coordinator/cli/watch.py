"""What a terminal or a script sees while a stage runs: lines for people, or one JSON object per line."""

import json
import sys
import time
from dataclasses import asdict
from typing import TextIO

from coordinator.stages.compare import RunPlace
from coordinator.stages.progress import Progress, SilentObserver

PLAIN_EVERY_S = 5.0
"""Where the output is no terminal a line per second is too much."""


class SilentWatcher(SilentObserver):
    """`--progress none`."""

    def run(self, place: RunPlace) -> None:
        """Forget it."""

    def close(self) -> None:
        """Nothing is kept."""


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


class JsonWatcher:
    """`--progress json`: one object per line on standard output."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout

    def stage(self, text: str) -> None:
        """{"event": "stage", "text": ...}"""
        self._print({"event": "stage", "text": text})

    def progress(self, progress: Progress) -> None:
        """{"event": "progress", ...} with the fields of `Progress`."""
        self._print(progress.to_json())

    def run(self, place: RunPlace) -> None:
        """{"event": "run", ...} with the fields of `RunPlace`."""
        left_s = None if place.left_s is None else round(place.left_s, 1)
        self._print({"event": "run", **asdict(place), "left_s": left_s})

    def close(self) -> None:
        """Nothing is kept."""

    def _print(self, value: object) -> None:
        self._stream.write(json.dumps(value) + "\n")
        self._stream.flush()


class LineWatcher:
    """One line that is rewritten on a terminal; a line every few seconds elsewhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._tty = self._stream.isatty()
        self._open = False
        self._last_s = float("-inf")

    def stage(self, text: str) -> None:
        """A line that stays."""
        self._end_line()
        self._stream.write(f"  {text}\n")
        self._stream.flush()

    def run(self, place: RunPlace) -> None:
        """A line that stays, not indented."""
        self._end_line()
        left = f", about {_duration(place.left_s)} left" if place.left_s is not None else ""
        self._stream.write(
            f"run {place.number} of {place.of}: {place.label}, repeat {place.repeat} of {place.repeats}{left}\n"
        )
        self._stream.flush()

    def progress(self, progress: Progress) -> None:
        """The line of the moment."""
        now_s = time.monotonic()
        if not self._tty and now_s - self._last_s < PLAIN_EVERY_S:
            return
        self._last_s = now_s
        left = f"{progress.remaining_s:.0f} s left" if progress.remaining_s > 0 else "draining"
        text = (
            f"  {progress.elapsed_s:5.0f} s  {progress.rate_per_s:,.0f}/s offered  "
            f"{progress.executed_per_s:,.0f}/s executed  {progress.pending:,} pending  {left}"
        )
        if progress.refused or progress.retired_lanes:
            text += f"  ({progress.refused:,} refused, {progress.retired_lanes} lanes retired)"
        if self._tty:
            self._stream.write(f"\r\x1b[K{text}")
            self._open = True
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Leave the cursor on a new line."""
        self._end_line()

    def _end_line(self) -> None:
        if self._open:
            self._stream.write("\n")
            self._open = False
