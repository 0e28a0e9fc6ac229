"""JSON-RPC 2.0 over HTTP and WebSocket, as every node that users call serves it. Knows no method."""
