"""Muster: work orders for a fleet, on the record.

The rooms stand at the top level of the repository; this package is their import name.
"""

__version__ = "0.1.0"
