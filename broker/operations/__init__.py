"""What the mesh can be asked to do: one file a noun, one row a verb, one table for every door.

In: a caller, and a request as a struct.  Out: an answer as a struct, or an error.  HTTP routes, NATS endpoints, the
OpenAPI document and the reference of permissions are made from the rows, so a new operation is one row in one file.
"""
