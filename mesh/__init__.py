"""The words: what every process of a mesh agrees on.

In: nothing of ours.  Out: names, records, the model, errors, settings and the connection to NATS.
"""
