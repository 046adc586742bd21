"""The control plane: follows the log, keeps the state, releases work, answers people.

In: records from the log, requests from people and agents.  Out: released orders, events, answers.
"""
