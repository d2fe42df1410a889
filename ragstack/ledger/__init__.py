"""The ledger: what is indexed, at which version, and which snapshot queries see."""
