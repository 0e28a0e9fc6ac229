"""The rollup node: follows the sequencer, derives, executes on its engine, keeps heads and history, serves users."""
