"""The surfaces: how people and programs reach the mesh, over HTTP and over NATS, with the same JSON.

In: requests, and messages on the inbox.  Out: answers, problems (RFC 9457), live events and task output.
"""
