"""The kinds of manifest, one a file, each found by its entry point in the group `muster.objects`."""
