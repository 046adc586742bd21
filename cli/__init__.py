"""People: the `muster` command, one file a noun.

In: what somebody typed.  Out: HTTP requests, and answers as tables, JSON or YAML.  The roles
(`up`, `broker`, `agent` …) start here too, and import nothing that they do not need.
"""
