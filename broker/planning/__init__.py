"""What the mesh wants, before it is written: pure functions from a world and a request to records.

In: the world, and what somebody asks for or an event that a trigger received.  Out: the records that would do it,
or an error that says why nothing can.  Nothing here writes, waits, or asks for the time.
"""
