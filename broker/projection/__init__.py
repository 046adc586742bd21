"""The record as SQLite tables: what people query.  It can be deleted; the log rebuilds it.

In: what the state machine changed, with the sequence it reaches.  Out: rows.
"""
