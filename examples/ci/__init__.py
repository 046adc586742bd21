"""CI/CD with pooled runners: a push to GitLab becomes an order that any free runner claims.

`make example-ci` runs all of it on this machine; copy `manifests/` to your own site.
"""
