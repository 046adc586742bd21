"""What starts work: the clock, webhooks, events and messages, each turned into firings that the broker puts on the log.

Imports only `mesh` and `blueprints`; it meets the broker on NATS.
"""
