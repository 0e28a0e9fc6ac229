"""The dev node's JSON-RPC: what wallets, explorers and adapters call, over HTTP and WebSocket or in process."""
