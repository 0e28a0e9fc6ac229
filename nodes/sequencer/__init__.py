"""Sequencer backends: one module each, `backends` the table of them; `block_log`, `group_writer`, `feed` are shared."""
