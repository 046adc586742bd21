"""The reference says all that there is, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from muster.blueprints.definition import Blueprint, Retry, Task
from muster.blueprints.kinds import task_kinds
from muster.blueprints.kinds.http_fields import HttpFields
from muster.blueprints.kinds.noop import NoopFields
from muster.blueprints.kinds.order import OrderFields
from muster.blueprints.kinds.wait import WaitFields
from muster.blueprints.objects import object_kinds
from muster.blueprints.provider import Hook, Schedule, provider_kinds
from tests.docs.generated import PAGES, diagram
from tests.kit.processes import ROOT

BLUEPRINTS = ROOT / "docs" / "reference" / "blueprints.md"
MANIFESTS = ROOT / "docs" / "reference" / "manifests.md"

TRIGGERS = ROOT / "docs" / "triggers.md"
WEBHOOKS = ROOT / "docs" / "webhooks.md"

TABLES: list[tuple[str, type[msgspec.Struct]]] = [
    ("A blueprint", Blueprint),
    ("A task", Task),
    ("`retry`", Retry),
    ("`uses: http`", HttpFields),
    ("`uses: wait`", WaitFields),
    ("`uses: order`", OrderFields),
    ("`uses: noop`", NoopFields),
]


def section(page: Path, title: str) -> str:
    """What is under a heading, up to the next one of its rank or higher."""
    rank, found = 0, list[str]()
    for line in page.read_text().splitlines():
        hashes = len(line) - len(line.lstrip("#"))
        if rank and 0 < hashes <= rank:
            break
        if rank:
            found.append(line)
        elif hashes and line[hashes:].strip() == title:
            rank = hashes
    assert rank, f"{page} has no heading {title!r}"
    return "\n".join(found)


def reported(text: str) -> set[str]:
    """The names in the first column of a section's first table."""
    table = next(part.strip() for part in text.split("\n\n") if part.strip().startswith("| field |"))
    return {name for row in table.splitlines()[2:] for name in re.findall("`([^`]+)`", row.split("|")[1])}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_generated_page_is_what_its_tables_say(page: Path) -> None:
    assert page.read_text() == PAGES[page](), "run `make docs`"


def test_the_concepts_show_the_states_as_they_are() -> None:
    assert diagram() in (ROOT / "docs" / "concepts.md").read_text(), "put the diagram of docs/reference/states.md here"


@pytest.mark.parametrize(("title", "struct"), TABLES, ids=str)
def test_every_field_of_a_blueprint_is_reported(title: str, struct: type[msgspec.Struct]) -> None:
    assert reported(section(BLUEPRINTS, title)) == set(struct.__struct_encode_fields__)


@pytest.mark.parametrize("kind", sorted(set(object_kinds()) - {"blueprint"}))
def test_every_field_of_a_manifest_is_reported(kind: str) -> None:
    assert reported(section(MANIFESTS, f"`kind: {kind}`")) == set(
        object_kinds()[kind].manifest.__struct_encode_fields__
    )


@pytest.mark.parametrize("name", sorted(provider_kinds()))
def test_every_field_of_a_provider_is_reported(name: str) -> None:
    title = "gitlab" if name == "github" else name  # "the same fields", it says there
    page = WEBHOOKS if issubclass(provider_kinds()[name], Hook) else TRIGGERS
    fields = reported(section(page, f"`provider: {title}`"))
    if issubclass(provider_kinds()[name], Schedule):
        fields |= reported(section(TRIGGERS, "Schedules"))
    assert fields == set(provider_kinds()[name].__struct_encode_fields__)
    assert f"`provider: {name}`" in page.read_text()


def test_every_kind_of_task_is_reported() -> None:
    text = BLUEPRINTS.read_text()
    assert not [kind for kind in task_kinds() if f"## `uses: {kind}`" not in text]
