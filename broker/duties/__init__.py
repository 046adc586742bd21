"""What the leader does as time passes: one small file a duty, each pure (state and time in, records out)."""
