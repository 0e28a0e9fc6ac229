"""Protocol rules as pure functions and state machines: no I/O, no clock, no randomness."""
