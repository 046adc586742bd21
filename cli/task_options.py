"""How an agent runs tasks: the options of `muster agent`, which `muster up` passes on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Final

from cyclopts import Group, Parameter

from muster.cli.options import seconds
from muster.mesh.settings import setting

TASKS: Final = Group("How tasks run", sort_key=60)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """What holds for all tasks of an agent.  What is not given is asked of the environment and the context."""

    grace: Annotated[
        str | None,
        Parameter(
            group=TASKS,
            help="How long running orders may continue once the agent is stopped. [env: MUSTER_GRACE] [default: 10s]",
        ),
    ] = None
    kill_grace: Annotated[
        str | None,
        Parameter(
            group=TASKS,
            help="Between SIGTERM and SIGKILL to what is stopped. [env: MUSTER_KILL_GRACE] [default: 10s]",
        ),
    ] = None
    pass_env: Annotated[
        tuple[str, ...],
        Parameter(
            group=TASKS,
            consume_multiple=True,
            help="Variables, as in JAVA_HOME or AWS_*, that tasks get besides PATH, HOME, LANG and the like. "
            "[env: MUSTER_PASS_ENV, with commas]",
        ),
    ] = ()

    @property
    def shutdown(self) -> timedelta:
        """The longest time in which an agent with these options stops."""
        found = self.settings()
        more: timedelta = found["grace"] + found["kill_grace"]
        return more + timedelta(seconds=10)

    def settings(self) -> dict[str, Any]:
        """Fields of the agent's settings."""
        return {
            "grace": timedelta(seconds=seconds(self.grace or setting("grace", "10s"))),
            "kill_grace": timedelta(seconds=seconds(self.kill_grace or setting("kill_grace", "10s"))),
            "pass_env": self.pass_env or tuple(filter(None, setting("pass_env", "").replace(" ", "").split(","))),
        }

    def arguments(self) -> list[str]:
        """The options as a command line has them."""
        given = {"--grace": self.grace, "--kill-grace": self.kill_grace}
        found = [part for name, value in given.items() if value is not None for part in (name, value)]
        return [*found, *(part for name in self.pass_env for part in ("--pass-env", name))]


NO_OPTIONS: Final = TaskOptions()
