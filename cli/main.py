"""The `muster` command: which commands there are, and what becomes of an error."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NoReturn

from cyclopts import App, CycloptsError, Group, Parameter

import muster
from muster.cli.command_line import hide_passwords
from muster.cli.examples import EXAMPLES
from muster.cli.output import page
from muster.cli.terminal import note
from muster.mesh.errors import MusterError, UsageError
from muster.mesh.private import keep_private

COMMANDS: Final = {
    "Start": {
        "up": "muster.cli.up:up",
        "server": "muster.cli.roles:server",
        "broker": "muster.cli.roles:broker",
        "agent": "muster.cli.roles:agent",
        "triggers": "muster.cli.roles:triggers",
        "demo": "muster.cli.demo:demo",
        "doctor": "muster.cli.doctor:doctor",
    },
    "Objects": {
        "apply": "muster.cli.apply:apply",
        "get": "muster.cli.objects:get",
        "describe": "muster.cli.describe:describe",
        "delete": "muster.cli.objects:delete",
    },
    "Work orders": {
        "run": "muster.cli.run:run",
        "orders": "muster.cli.orders:orders",
        "logs": "muster.cli.logs:logs",
        "explain": "muster.cli.explain:explain",
        "cancel": "muster.cli.orders:cancel",
        "retry": "muster.cli.orders:retry",
        "events": "muster.cli.events:events",
    },
    "Triggers": {
        "fire": "muster.cli.triggers:fire",
        "next": "muster.cli.triggers:next_",
        "firings": "muster.cli.triggers:firings",
    },
    "Elements": {
        "mode": "muster.cli.elements:mode",
        "drain": "muster.cli.elements:drain",
        "undrain": "muster.cli.elements:undrain",
    },
    "This command": {
        "completion": "muster.cli.completion:completion",
    },
}
"""Every command by its place in the help; each is imported only when it is used."""

NAMES: Final = frozenset(name for commands in COMMANDS.values() for name in commands)

NEED_SERVER_PARTS: Final = frozenset({"up", "broker", "triggers", "demo"})
"""Commands that need what the extra `server` installs."""

GLOBAL: Final = frozenset({"--api", "--output", "-o"})
"""Options that may also come before the command."""

HELP: Final = frozenset({"--help", "-h", "--version"})

NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""What a full or broken disk says."""

INTERRUPTED: Final = 130
BUG: Final = 70
"""An exception that nobody expected (sysexits.h, EX_SOFTWARE)."""


def application(*, whole: bool = True) -> App:
    """The command line; the `whole` of it has every command's help at hand, else each is imported when it is used."""
    app = App(
        name="muster",
        help="Event-driven work orders for a fleet: claimed by agents, run step by step, all on the record.",
        version=muster.__version__,
        help_format="plaintext",
        help_epilogue=EXAMPLES[""],
        default_parameter=Parameter(negative=(), show_default=_worth_showing),
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for number, (title, commands) in enumerate(COMMANDS.items()):
        group = Group(title, sort_key=number)
        for name, place in commands.items():
            app.command(_imported(place) if whole else place, name=name, group=group, help_epilogue=EXAMPLES[name])
    return app


def _imported(place: str) -> Callable[..., Any]:
    module, _, function = place.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found


def _worth_showing(value: Any) -> str | None:
    return str(value) if value not in (None, False, "", ()) else None


def run(argv: list[str]) -> int:
    """Runs one command and returns its exit code; reports errors on standard error, never as a traceback."""
    tokens = _command_first(argv)
    try:
        _check_text(argv)
        _check_installed(tokens)
        whole = not tokens or tokens[0] not in NAMES
        console = page() if whole or not HELP.isdisjoint(tokens) else None
        code = application(whole=whole)(tokens, console=console, print_error=False, exit_on_error=False)
        sys.stdout.flush()
    except MusterError as error:
        return complain(str(error), error.exit_code)
    except CycloptsError as error:
        place = f"{tokens[0]} " if tokens and tokens[0] in NAMES else ""
        return complain(f"{error} (`muster {place}--help` shows how)", UsageError.exit_code)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _print_no_more()  # whoever read our output has gone (`| head`); nothing is wrong
        return 0
    except Exception as error:  # noqa: BLE001 - the last place where a bug can be reported in words
        return _no_room(error) if isinstance(error, OSError) and error.errno in NO_ROOM else _bug(error)
    return code if isinstance(code, int) else 0


def _check_installed(tokens: list[str]) -> None:
    if tokens and tokens[0] in NEED_SERVER_PARTS and HELP.isdisjoint(tokens) and find_spec("litestar") is None:
        raise UsageError(
            f"`muster {tokens[0]}` needs the server parts, which are not installed in {sys.prefix}; "
            "install requirements/server.txt of Muster's source, or the extra `muster-mesh[server]`"
        )


def complain(text: str, code: int) -> int:
    """Reports on standard error what was wrong, and returns the exit code."""
    prefix = "\033[1;31mmuster:\033[0m" if sys.stderr.isatty() and not os.environ.get("NO_COLOR") else "muster:"
    with suppress(OSError):  # what was wrong matters more
        sys.stdout.flush()
    note(text, prefix=prefix)
    return code


def _command_first(argv: list[str]) -> list[str]:
    """`muster -o json get machines` as `muster get machines -o json`."""
    moved: list[str] = []
    rest = list(argv)
    while rest and rest[0].partition("=")[0] in GLOBAL:
        moved.append(rest.pop(0))
        if "=" not in moved[-1] and rest:
            moved.append(rest.pop(0))
    return [*rest[:1], *moved, *rest[1:]]


def _no_room(error: OSError) -> int:
    _print_no_more()
    where = f"in {error.filename}" if error.filename else "the output"
    return complain(f"cannot write {where}: {error.strerror}", MusterError.exit_code)


def _print_no_more() -> None:
    """Otherwise the flush at exit would fail too."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _check_text(argv: list[str]) -> None:
    for argument in argv:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"{argument!r} is not UTF-8 text") from error


def _bug(error: Exception) -> int:
    if os.environ.get("MUSTER_DEBUG"):
        traceback.print_exception(error)
        return BUG
    trace = "".join(traceback.format_exception(error))
    text = f"muster {muster.__version__}, Python {sys.version}\n{' '.join(sys.argv)}\n\n{trace}"
    with tempfile.NamedTemporaryFile(prefix="muster-", suffix=".txt", delete=False) as out:
        out.write(text.encode(errors="backslashreplace"))
    return complain(
        f"{type(error).__name__}: {str(error).partition(chr(10))[0]}; this is a bug of muster, "
        f"please report it with {Path(out.name)} (MUSTER_DEBUG=1 shows the details here)",
        BUG,
    )


def main() -> NoReturn:
    """The console script."""
    hide_passwords(sys.argv[1:])
    keep_private()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us (`>&-`)
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))
    if os.getpid() == 1:
        from muster.cli.init import as_a_child_of_process_one

        as_a_child_of_process_one()
    sys.exit(run(sys.argv[1:]))
