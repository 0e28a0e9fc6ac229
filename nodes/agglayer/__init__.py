"""Services of the aggregation layer: verdicts, certificates, provers, settlement. Rules are in `nodes.rules`."""
