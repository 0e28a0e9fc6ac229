"""A second, independent EVM that executes again what a rollup's engine executed, and compares what it did."""
