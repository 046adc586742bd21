"""The entry point of a zipped timespan."""

from timespan.__main__ import main

main()
