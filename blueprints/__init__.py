"""What to run: manifests, their validation, the two expression languages, and the kinds of task.

In: YAML from people, values from orders.  Out: checked definitions, and outcomes of tasks.
"""
