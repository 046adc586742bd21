"""The spawner: a small process beside the agent that starts every task's program, and ends it.

It outlives the agent, however that ends, for as long as that takes to end the tasks: it kills them when the
agent is gone, and when the agent does not respond until its leases have expired.  It imports the standard library only.
`helper` is the process itself; `muster.agent.spawning` is the agent's end of the line.
"""
