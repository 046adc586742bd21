"""Where a zipped timespan begins."""

from timespan.__main__ import main

main()
