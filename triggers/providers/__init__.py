"""The kinds of trigger, one a file, each found by its entry point in the group `muster.triggers`."""
