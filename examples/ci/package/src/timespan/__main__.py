"""`timespan 1h30m`, `timespan --text 5400`, `timespan --version`."""

import pkgutil
import sys

import timespan


def main():
    """Read the command line, print one line."""
    words = sys.argv[1:]
    try:
        if words == ["--version"]:
            built = pkgutil.get_data("timespan", "COMMIT")  # put there by the build
            print(f"timespan, commit {built.decode().strip()}")
        elif words[:1] == ["--text"]:
            print(timespan.text(int(words[1])))
        else:
            print(timespan.seconds(words[0]))
    except (ValueError, IndexError, OSError) as error:
        sys.exit(f"timespan: {error}")


if __name__ == "__main__":
    main()
