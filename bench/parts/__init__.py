"""The processes of a measurement, each a file: `python -m bench.parts.<name> JSON`.

A part prints `ready`, waits for a line on its standard input, works, and prints what it saw as JSON, a line each.
Times are `time.monotonic_ns()`, which all processes of a Linux machine share, unless a name says `wall`.
"""
