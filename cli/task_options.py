"""How an agent runs tasks: the options of `muster agent`, which `muster up` passes on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Final, Literal

from cyclopts import Group, Parameter

from muster.blueprints.definition import size
from muster.blueprints.reach import Reach
from muster.cli.options import seconds
from muster.mesh.errors import UsageError
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

    http_allow: Annotated[
        tuple[str, ...],
        Parameter(
            group=TASKS,
            consume_multiple=True,
            help="Where `uses: http` may connect to although a less specific rule denies it: networks (10.0.0.0/8), "
            "addresses, host names, *.SUFFIX. [env: MUSTER_HTTP_ALLOW, with commas]",
        ),
    ] = ()
    http_deny: Annotated[
        tuple[str, ...],
        Parameter(
            group=TASKS,
            consume_multiple=True,
            help="Where it must not, besides link-local addresses and cloud metadata; * for everywhere. "
            "[env: MUSTER_HTTP_DENY, with commas]",
        ),
    ] = ()
    run_as: Annotated[
        str | None,
        Parameter(group=TASKS, help="The user that they run as; takes root's agent. [env: MUSTER_RUN_AS]"),
    ] = None
    isolation: Annotated[
        Literal["none", "cgroup"] | None,
        Parameter(
            group=TASKS,
            help="cgroup: a control group for each order, killed whole at its end. [env: MUSTER_ISOLATION] "
            "[default: none]",
        ),
    ] = None
    memory: Annotated[
        str | None, Parameter(group=TASKS, help="The most that an order may use (512MB). [env: MUSTER_MEMORY]")
    ] = None
    processes: Annotated[
        int | None,
        Parameter(group=TASKS, help="How many an order may have at a time. [env: MUSTER_PROCESSES]"),
    ] = None

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
            **self._walls(),
            "pass_env": self.pass_env or _listed("pass_env"),
            "http_allow": _rules("--http-allow", self.http_allow or _listed("http_allow")),
            "http_deny": _rules("--http-deny", self.http_deny or _listed("http_deny")),
        }

    def _walls(self) -> dict[str, Any]:
        isolation = self.isolation or setting("isolation", "none")
        if isolation not in {"none", "cgroup"}:
            raise UsageError(f"isolation is none or cgroup, not {isolation!r}")
        memory, processes = self.memory or setting("memory", ""), self.processes or setting("processes", "")
        try:
            return {
                "run_as": self.run_as or setting("run_as", "") or None,
                "isolation": isolation,
                "memory": size(memory) if memory else None,
                "processes": int(processes) if processes else None,
            }
        except ValueError as error:
            raise UsageError(f"--memory and --processes: {error}") from error

    def arguments(self) -> list[str]:
        """The options as a command line has them."""
        given = {
            "--grace": self.grace,
            "--kill-grace": self.kill_grace,
            "--run-as": self.run_as,
            "--isolation": self.isolation,
            "--memory": self.memory,
            "--processes": self.processes,
        }
        found = [part for name, value in given.items() if value is not None for part in (name, str(value))]
        lists = {"--pass-env": self.pass_env, "--http-allow": self.http_allow, "--http-deny": self.http_deny}
        return [*found, *(part for option, values in lists.items() for value in values for part in (option, value))]


def _rules(option: str, texts: tuple[str, ...]) -> tuple[str, ...]:
    try:
        Reach.of(deny=texts)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error
    return texts


def _listed(name: str) -> tuple[str, ...]:
    """A setting that is a list with commas."""
    return tuple(filter(None, setting(name, "").replace(" ", "").split(",")))


NO_OPTIONS: Final = TaskOptions()
