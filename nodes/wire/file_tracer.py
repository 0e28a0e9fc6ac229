"""A node's trace file: every record is handed to the OS as it happens, so that it survives the end of the process.

Not synced to the disk: a trace is evidence of a run, and a run does not outlive its machine.
"""

import mmap
import os
import threading
from collections.abc import Callable
from pathlib import Path

from nodes.model.errors import InvalidInput, TestbedError
from nodes.telemetry.clock import Clock
from nodes.telemetry.events import Event, Stamped
from nodes.wire.trace_records import stamped_to_bytes, whole_records


class FileTracer:
    """Appends events to one file; satisfies `nodes.telemetry.tracer.Tracer`. May be used from several threads.

    Opening cuts a torn last record that an earlier process left. Raises InvalidInput where the file is no trace,
    OSError where it cannot be opened or (later) written.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._listeners: dict[object, Callable[[], object]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            self._size_bytes = _whole_size(self._file, path)
            os.ftruncate(self._file, self._size_bytes)
        except BaseException:
            os.close(self._file)
            raise
        self._closed = False

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole records so far; always a record boundary."""
        return self._size_bytes

    @property
    def closed(self) -> bool:
        """No record will follow."""
        return self._closed

    def record(self, event: Event, *, monotonic_ns: int | None = None) -> None:
        """Append one event. With `monotonic_ns`, both timestamps are of that earlier moment."""
        now_ns, wall_ns = self._clock.monotonic_ns(), self._clock.wall_ns()
        moment_ns = now_ns if monotonic_ns is None else monotonic_ns
        data = stamped_to_bytes(Stamped(monotonic_ns=moment_ns, wall_ns=wall_ns - (now_ns - moment_ns), event=event))
        with self._lock:
            if self._closed:
                raise TestbedError(f"{self.path}: an event was recorded after the trace was closed")
            self._append(data)
            listeners = list(self._listeners.values())
        for listener in listeners:
            listener()

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset` on, none past the last whole record; also of a closed tracer."""
        with self._lock:
            wanted = min(size, max(0, self._size_bytes - offset))
            if not self._closed:
                return os.pread(self._file, wanted, offset)
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(wanted)

    def subscribe(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Call `listener` after every record and at the close, in the thread that records; returns how to end that."""
        key = object()
        with self._lock:
            self._listeners[key] = listener

        def unsubscribe() -> None:
            with self._lock:
                self._listeners.pop(key, None)

        return unsubscribe

    def close(self) -> None:
        """End the file; readers that follow it end too. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            os.close(self._file)
            listeners = list(self._listeners.values())
        for listener in listeners:
            listener()

    def _append(self, data: bytes) -> None:
        written = 0
        try:
            while written < len(data):
                written += os.write(self._file, data[written:] if written else data)
        except OSError:
            # Half a record in the middle of the file would make all later ones unreadable.
            os.ftruncate(self._file, self._size_bytes)
            raise
        self._size_bytes += written


def _whole_size(file: int, path: Path) -> int:
    size = os.fstat(file).st_size
    if size == 0:
        return 0
    with mmap.mmap(file, size, prot=mmap.PROT_READ) as mapped, memoryview(mapped) as view:
        try:
            return whole_records(view)
        except InvalidInput as error:
            raise InvalidInput(f"{path} is not a trace file: {error}; move it away") from None
