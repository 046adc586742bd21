"""What the log says: `apply(state, record)` and nothing else.  No clock, no randomness, no I/O.

In: records with their sequence and JetStream time.  Out: what changed, and what was refused and why.
"""
