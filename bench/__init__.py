"""Measures Muster against floors: the same work done by nats-py alone, on the same machine, in the same run.

In: a machine.  Out: `RESULTS.md`, its plot, and `results.json`, from which both are made.
"""
