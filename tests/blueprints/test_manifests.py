"""Manifests: everything that is wrong is reported at once, with its place and how to fix it."""

from __future__ import annotations

from pathlib import Path

import pytest

from muster.blueprints.definition import Blueprint
from muster.blueprints.manifest import check_all, decode, load
from muster.blueprints.objects import element_kinds, object_kinds
from muster.blueprints.objects.base import ElementManifest
from muster.blueprints.objects.machine import Machine
from muster.mesh.errors import InvalidError, Problem, TooLargeError
from muster.mesh.model import Mode
from tests.blueprints.context import Catalog
from tests.kit.processes import ROOT


def wrong(text: str, known: str = "") -> list[Problem]:
    with pytest.raises(InvalidError) as caught:
        check_all(load(text, "f.yaml"), Catalog(known))
    return list(caught.value.problems)


def shown(text: str, known: str = "") -> list[str]:
    return [str(problem) for problem in wrong(text, known)]


def test_a_machine_is_read() -> None:
    (one,) = load(
        "kind: machine\nname: web01\nlabels: {role: web}\nparams: {ram: 32}\nprofiles: [base]\nmode: workflow\n"
    )
    assert (one.kind, one.name) == ("machine", "web01")
    assert one.manifest == Machine(
        name="web01", labels={"role": "web"}, params={"ram": 32}, profiles=("base",), mode=Mode.WORKFLOW
    )
    assert one.raw["params"] == {"ram": 32}
    assert decode(one.raw) == one.manifest


def test_several_documents_and_a_json_list_are_several_manifests() -> None:
    text = "kind: machine\nname: a\n---\n---\nkind: profile\nname: b\n"
    assert [one.name for one in load(text)] == ["a", "b"]
    assert [one.name for one in load('[{"kind": "machine", "name": "a"},\n\t{"kind": "profile", "name": "b"}]')] == [
        "a",
        "b",
    ]


def test_every_kind_is_found_and_elements_say_so() -> None:
    files = {path.stem for path in (ROOT / "blueprints" / "objects").glob("*.py")}
    assert files - {"__init__", "base", "element_checks"} <= set(object_kinds())
    assert element_kinds() == tuple(
        sorted(name for name, kind in object_kinds().items() if issubclass(kind.manifest, ElementManifest))
    )


def test_every_problem_of_every_document_is_reported_with_its_place() -> None:
    text = (
        "kind: machine\nname: web01\nslotz: 2\nlabels: {rack: 12}\n"
        "---\nkind: machin\nname: x\n"
        "---\nkind: machine\nname: Not A Name\nslots: many\n"
        "---\nname: no-kind\n"
        "---\njust text\n"
    )
    places = [(problem.line, problem.column, problem.path, problem.message) for problem in wrong(text)]
    assert places == [
        (3, 1, "slotz", "there is no field 'slotz' here"),
        (4, 16, "labels.rack", "expected text, got the number 12"),
        (6, 7, "kind", "there is no kind 'machin'"),
        (11, 8, "slots", "expected a whole number, got the text 'many'"),
        (10, 7, "name", "'Not A Name' is not a name"),
        (13, 1, "", "the field 'kind' is missing"),
        (15, 1, "", "expected a manifest: fields with `kind` and `name`"),
    ]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("kind: machine\nname: a\nlabel: {}\n", "did you mean 'labels'?"),
        ("kind: blueprnt\nname: a\n", "did you mean 'blueprint'?"),
        ("kind: machine\nname: a\nmode: workorder\n", "did you mean 'work_order'?"),
        ("kind: machine\nname: a\nlabels: {on: true}\n", 'put it in quotes: "true"'),
    ],
)
def test_a_slip_is_reported_with_a_hint(text: str, hint: str) -> None:
    assert [problem.hint for problem in wrong(text)] == [hint]


def test_an_empty_text_and_a_huge_one_are_refused() -> None:
    assert shown("# nothing\n") == ["f.yaml: no manifest in it"]
    with pytest.raises(TooLargeError):
        load("#" * (8 * 1024 * 1024 + 1))


def test_one_name_stands_for_one_thing() -> None:
    twice = "kind: machine\nname: a\n---\nkind: machine\nname: a\n"
    assert shown(twice) == ["f.yaml:5: name: machine 'a' is here twice; first in f.yaml:1"]
    both = "kind: cluster\nname: a\n"
    assert shown(both, "kind: machine\nname: a\n") == [
        "f.yaml:2: name: there is already a machine 'a'; names are unique over all elements"
    ]
    check_all(load(both), Catalog("kind: pool\nname: a\nwhere: 'true'\n"))


def test_references_are_looked_up_in_the_mesh_and_in_what_is_applied_with_it() -> None:
    machine = "kind: machine\nname: m\nprofiles: [base, bsae]\n"
    profile = "---\nkind: profile\nname: base\n"
    message = "f.yaml:3: profiles[1]: there is no profile 'bsae' (did you mean 'base'?)"
    assert shown(machine + profile) == [message]
    assert shown(machine, "kind: profile\nname: base\n") == [message]
    cluster = "kind: cluster\nname: c\nmembers: [m1, c, m2]\n---\nkind: machine\nname: m1\n"
    assert shown(cluster) == [
        "f.yaml:3: members[1]: a cluster cannot be its own member",
        "f.yaml:3: members[2]: there is no element 'm2' (there are c, m1)",
    ]


def test_params_fit_their_declaration() -> None:
    param = "kind: param\nname: ram_gb\nschema: {type: integer, minimum: 1}\n---\n"
    assert shown(param + "kind: machine\nname: m\nparams: {ram_gb: many, other: x}\n") == [
        'f.yaml:7: params.ram_gb: "many" is not of type "integer"'
    ]
    assert shown("kind: param\nname: p\nschema: {minimum: low}\n") == [
        'f.yaml:3: schema.minimum: not JSON Schema: "low" is not of type "number"'
    ]


@pytest.mark.parametrize(
    ("where", "line", "column", "message"),
    [
        ("'element.kidn == \"x\"'", 3, 9, "there is no `element.kidn`"),
        ("element.slots > 'a'", 3, 22, "`>` cannot be used on (int, string)"),
        ("|\n  element.online &&\n  element.slotz > 1", 5, 1, "there is no `element.slotz`"),
        ("element.name", 3, 8, "it must be true or false, but is text"),
        ("'element.name =='", 3, 24, "Syntax error: the end comes too early;"),
        ("''", 3, 9, "the expression is empty"),
    ],
)
def test_a_pools_filter_is_checked_to_the_column(where: str, line: int, column: int, message: str) -> None:
    (problem,) = wrong(f"kind: pool\nname: p\nwhere: {where}\n")
    assert (problem.line, problem.column) == (line, column)
    assert problem.message.startswith(message)


def test_decode_says_what_is_wrong_without_a_file() -> None:
    with pytest.raises(InvalidError, match="there is no field 'slotz' here"):
        decode({"kind": "machine", "name": "a", "slotz": 1})
    assert isinstance(decode({"kind": "blueprint", "name": "b"}), Blueprint)


def test_every_example_in_the_surface_is_read() -> None:
    text = Path(__file__).with_name("obey.yaml").read_text()
    (one,) = load(text)
    assert one.lines[("tasks", 0, "run")].style == "|"
