"""Values that tests of sequencers share and that need no wire."""

SIGNING_KEY = "0x" + "5a" * 32
