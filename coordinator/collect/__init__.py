"""Reading what nodes traced: following their files over gRPC, aligning clocks, and joining the records into tables.

It measures nothing itself and changes nothing in a node. Outcomes and latencies come from here and from nowhere else.
"""
