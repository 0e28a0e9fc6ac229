"""Every bound of the system, by name. A limit that is hit is named in the error together with its value."""

MAX_LEGS_PER_BUNDLE = 255
"""The trailer writes the leg index and the leg count as one byte each."""
MAX_PAYLOAD_BYTES = 128 * 1024
"""Largest payload the sequencer takes; the same bound as a transaction in geth's pool."""
MAX_SUBMISSION_BYTES = 512 * 1024
"""Largest serialized bundle."""
MAX_SUBMISSIONS_PER_CALL = 4_096
MAX_MESSAGE_BYTES = 32 * 1024 * 1024
"""Largest gRPC message either way; a sequenced block must fit."""
MIN_BLOCK_INTERVAL_MS = 10
MAX_BLOCK_INTERVAL_MS = 12_000
MAX_BLOCK_BYTES = 8 * 1024 * 1024
"""Largest `block_bytes_max`; a block served with all its evidence stays below MAX_MESSAGE_BYTES."""
MAX_ROLLUPS = 1_024
MAX_LOCATOR_ENTRIES = 64
FOLLOW_BUFFER_BLOCKS = 64
"""Blocks a follower may lag behind before it is served from the durable log instead of memory."""
MAX_BLOCK_HASHES = 10_000
"""Block hashes that one call of the Rollup service answers."""
MAX_RPC_BODY_BYTES = 1024 * 1024
MAX_RPC_BATCH = 100
MAX_LOG_RESULTS = 10_000

RPC_DEADLINE_S = 10.0
"""Deadline of every unary call unless the caller states another."""
PATIENT_DEADLINE_S = 60.0
"""Of calls before and after the measured load, where a starved machine must not cost the run."""
SUBMIT_DEADLINE_S = 5.0
STREAM_KEEPALIVE_S = 10.0
