"""The reference pages that are made of the product's own tables: `make docs` writes them.

`python -m tests.docs.generated [FOLDER]` does the same; a test fails while a page is not what its tables say.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast, get_args

import msgspec

from muster.blueprints.kinds import task_kinds
from muster.blueprints.objects import object_kinds
from muster.blueprints.provider import Hook, Provider, Schedule, Source, provider_kinds
from muster.broker.api.context import Api, ApiSettings
from muster.broker.api.endpoint import Endpoint
from muster.broker.api.endpoints import ENDPOINTS
from muster.broker.api.http import create_app
from muster.broker.state.table import TABLE, WAITING
from muster.mesh import names, records
from muster.mesh.errors import BY_CODE, MusterError
from muster.mesh.events import KINDS, Event, cloud_event, nats_subject
from muster.mesh.model import FINAL_STATES, JobState, OrderState
from tests.kit.processes import ROOT

REFERENCE: Final = ROOT / "docs" / "reference"

NOTE: Final = "<!-- Made by `make docs` from {source}; do not change it here. -->\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def diagram() -> str:
    """The states of an order and the ways between them, from the table of the state machine."""
    lines = ["stateDiagram-v2", "    [*] --> queued"]
    for state in OrderState:
        lines += [f"    {state} --> {after}" for after in OrderState if after in TABLE[state].leads_to]
    lines += [f"    {state} --> [*]" for state in OrderState if state in FINAL_STATES]
    return "\n".join(["```mermaid", *lines, "```"])


def states() -> str:
    """`docs/reference/states.md`."""
    rows = [
        [f"`{state}`", row.meaning, row.entered_by, _words(row.leads_to), row.crash] for state, row in TABLE.items()
    ]
    jobs = [
        [f"`{state}`", KINDS[f"job.{state}"].removeprefix("a task ").replace("a task's", "its")] for state in JobState
    ]
    return f"""\
# States

{NOTE.format(source="broker/state/table.py and mesh/records.py")}
## Of an order

{diagram()}

{table(["state", "it means", "it comes in by", "it leads to", "a crash"], rows)}

`failed` and `cancelled` lead on only by `muster retry`.

## Why an order is queued

{table(["reason", "it means"], [[f"`{reason}`", words] for reason, words in WAITING.items()])}

## Of a job

{table(["state", "the task"], jobs)}

## Records

Everything that changes state is one of these, in the stream `{names.LOG_STREAM}`. A message that is no such record, or
whose writer may not write it, changes nothing and is reported as the event `record.refused`.

{table(["record", "about", "written by", "it says"], _records())}
"""


def _words(found: Iterable[OrderState]) -> str:
    return ", ".join(f"`{state}`" for state in OrderState if state in set(found)) or "nothing"


def _records() -> list[list[str]]:
    return [
        [f"`{kind.__struct_config__.tag}`", kind.kind, "element" if kind.by_element else "broker", _first_words(kind)]
        for kind in get_args(records.AnyRecord)
    ]


def _first_words(thing: Any) -> str:
    """A docstring's first paragraph, on one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def events() -> str:
    """`docs/reference/events.md`."""
    rows = [[f"`{kind}`", words, f"`muster_{kind.replace('.', '_')}_total`"] for kind, words in KINDS.items()]
    data = {"blueprint": "hello", "element": "web01", "pool": None, "state": "finished", "reason": "", "attempt": 1}
    time = datetime(2026, 1, 31, 9, 0, tzinfo=UTC)
    example = Event(id="16.0", kind="order.finished", subject="3pcqdlpoknbopmq5", time=time, data=data)
    shown = msgspec.json.format(cloud_event(example), indent=2).decode()
    return f"""\
# Events

{NOTE.format(source="mesh/events.py")}
An event says what happened. It is derived from a record, so its `id` (log sequence, and its place among the record's
events) is the same on every broker and after every replay.

{table(["kind", "it means", "counter in `/metrics`"], rows)}

A job that starts and ends within a quarter of a second is reported with its order's end: it makes one `job.…` event, of
its own end, and no `job.running`.

## Where to hear them

* `muster events`, also `--kind order.failed`, `--kind order`, and `-o json` with one event a line.
* `GET /api/v1/events`: server-sent events; `Last-Event-ID` resumes after the event of that id.
* NATS: `muster.event.<kind>.<action>.<id>`, published by the leading broker, for who listens just then. Dots in names
  are written `=`. The event below stands on `{nats_subject(example.kind, example.subject)}`:

```json
{shown}
```
"""


def api() -> str:
    """`docs/reference/api.md`."""
    routes = [
        [f"`{method.upper()} {path}`", operation["summary"]]
        for path, item in sorted(_openapi()["paths"].items())
        for method, operation in item.items()
    ]
    services = [[f"`{_service(one)}`", one.summary.partition(".")[0]] for one in ENDPOINTS]
    errors = [
        [f"`urn:muster:problem:{code}`", _first_words(kind), str(kind.status), str(kind.exit_code)]
        for code, kind in _errors()
    ]
    return f"""\
# The API

{NOTE.format(source="broker/api/")}
HTTP and NATS answer with the same JSON. Times are RFC 3339, UTC. Lists are `{{"items": [...], "next": cursor}}`, `next`
being null on the last page. How to ask over NATS: [Orders over NATS](../how-to/nats.md).

## HTTP

The broker serves its own OpenAPI 3.1 document at `/schema/openapi.json`. Every route but `/healthz` and `/readyz`, the
document too, asks for `Authorization: Bearer …` ([Tokens](../how-to/secure.md#tokens)). A JSON body with a key twice in
one object is refused with 422. An `Idempotency-Key` header
makes `POST /api/v1/orders` safe to repeat.

{table(["route", "what it does"], routes)}

## NATS

{table(["subject", "what it does"], services)}

`{names.INBOX_ORDERS}` takes the body of `orders.create` without an answer: durable fire-and-forget.

## Errors

Errors are RFC 9457 problems; over NATS as `{{"error": problem}}`, with the micro headers `Nats-Service-Error` and
`Nats-Service-Error-Code`. `errors` lists every single thing that is wrong, each with its path, and its file, line and
column where it has one. The command line ends with the exit code.

{table(["`type`", "it means", "status", "exit code"], errors)}
"""


def _service(endpoint: Endpoint) -> str:
    return endpoint.subject.replace("*", "<element>")


def _errors() -> list[tuple[str, type[MusterError]]]:
    return list(BY_CODE.items())


def _openapi() -> dict[str, Any]:
    """The paths that the broker's document has; nothing runs behind them here."""
    app = create_app(cast("Api", SimpleNamespace(settings=ApiSettings())))
    return app.openapi_schema.to_schema()


def kinds() -> str:
    """`docs/reference/kinds.md`."""
    objects = [
        [f"`{name}`", kind.summary, "yes" if kind.is_element else "", _fields(kind.manifest)]
        for name, kind in sorted(object_kinds().items())
    ]
    tasks = [[f"`{name}`", _first_words(type(kind))] for name, kind in sorted(task_kinds().items())]
    providers = [
        [f"`{name}`", _first_words(kind), _base(kind), _fields(kind)] for name, kind in sorted(provider_kinds().items())
    ]
    return f"""\
# Kinds

{NOTE.format(source="the entry points in pyproject.toml")}
Muster finds every kind of object, task and trigger by its entry point, and uses a plug-in's kinds like its own.
`muster get kinds` lists the kinds of object of a running mesh. [Contributing](../../CONTRIBUTING.md#add-a-kind) shows
how to add one of each.

## Objects

`kind:` in a manifest; an agent can act for an element.

{table(["kind", "it is", "element", "fields"], objects)}

## Tasks

`uses:` in a blueprint.

{table(["task", "it does"], tasks)}

## Triggers

`provider:` of a trigger; the fields stand in its `with:`.

{table(["provider", "what it does", "base", "fields"], providers)}
"""


def _base(provider: type[Provider]) -> str:
    return next(base.__name__.lower() for base in (Schedule, Hook, Source) if issubclass(provider, base))


def _fields(struct: type[msgspec.Struct]) -> str:
    return ", ".join(f"`{name}`" for name in struct.__struct_encode_fields__)


PAGES: Final[dict[Path, Callable[[], str]]] = {
    REFERENCE / "kinds.md": kinds,
    REFERENCE / "states.md": states,
    REFERENCE / "events.md": events,
    REFERENCE / "api.md": api,
}


def write(folder: Path = REFERENCE) -> None:
    """Writes every generated page."""
    for page, make in PAGES.items():
        (folder / page.name).write_text(make())


if __name__ == "__main__":
    write(*(Path(folder) for folder in sys.argv[1:]))
