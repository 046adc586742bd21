"""The daemon on a host: it claims orders for its elements, runs their tasks, and reports.

In: released orders from the work stream.  Out: records on the log, output chunks, heartbeats.
Hosting says for whom; slots take; claim, lease, run and report are one order's way, in that order.
"""
