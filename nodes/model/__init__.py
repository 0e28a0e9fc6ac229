"""Pure values that travel between the parts: ids, limits, errors, bundles, sequenced blocks, execution results."""
