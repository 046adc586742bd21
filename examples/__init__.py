"""Complete examples, described in README.md."""
