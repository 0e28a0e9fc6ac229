"""The wire: the only importer of grpc and of the generated stubs.

Values go in and come out; nobody else sees a message.
"""

import os

# gRPC's core writes to stderr when a peer goes away, which here is an answer like any other and is told as an error.
# It reads the variable once, before anything can call it; whoever sets it has the last word.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
# With fork support on (its default) gRPC restarts its threads in every forked child, also in one that is about to
# become another program. A node starts engines while its gRPC threads run, and one start in five then died of a
# segmentation fault before the engine's first instruction.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
