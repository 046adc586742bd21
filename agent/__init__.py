"""The daemon on a host: it claims orders for its elements, runs their tasks, and reports.

In: released orders from the work stream.  Out: records on the log, output chunks, heartbeats.
`hosting` joins for an element, `fetch` pulls its work, `hold` is an order's state here and the table of what each
message does to it, `orders` applies that table, and `execute` takes an order from its claim to its last report.
"""
