"""CI/CD by pooled runners: a push to GitLab becomes an order that whichever runner is free claims.

`make example-ci` runs all of it on this machine; `manifests/` is what one takes over.
"""
