"""The steps of the example.  Each step checks its expectations, and the first failure ends the example."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from examples.ci.artifacts import Artifacts
from examples.ci.fleet import Fleet
from examples.ci.git import Developer
from examples.ci.gitlab import NOTHING, Answer, Delivery, GitLab, deliver
from examples.ci.show import UnexpectedError, expect, say, step

RUNNERS: Final = ("runner1", "runner2", "runner3")
PUSHES: Final = 6
EVERY: Final = timedelta(seconds=3)
BUILD: Final = "build-on-push"


@dataclass(frozen=True, kw_only=True)
class Site:
    """All running parts, and a developer."""

    gitlab: GitLab
    artifacts: Artifacts
    fleet: Fleet
    developer: Developer
    manifests: Path

    def push(self, branch: str, *, before: str = NOTHING) -> Delivery:
        """Pushes a branch; returns the webhook that GitLab sends."""
        self.developer.push(branch)
        return self.gitlab.pushed(f"refs/heads/{branch}", before, self.head(branch))

    def head(self, name: str) -> str:
        """Returns the commit of a branch or tag."""
        return self.developer.git("rev-parse", f"{name}^{{commit}}").strip()

    def send(self, delivery: Delivery, trigger: str = BUILD) -> Answer:
        """Sends a webhook; returns Muster's answer."""
        return deliver(f"{self.fleet.api}/hooks/{trigger}", delivery)

    def firings(self, trigger: str) -> list[dict[str, Any]]:
        """Returns the firings of a trigger, the latest first."""
        found: list[dict[str, Any]] = self.fleet.get(f"triggers/{trigger}/firings")["items"]
        return found


def apply(site: Site) -> None:
    """Applies the manifests: runners, blueprints and triggers."""
    step("Apply the runners, the blueprint and the triggers", "muster apply -f examples/ci/manifests")
    code = site.fleet.command("apply", "-f", str(site.manifests))
    expect("the manifests are valid", code == 0)
    step("Show when the heartbeat fires next", "muster next heartbeat -n 3")
    expect("the clock has it", site.fleet.command("next", "heartbeat", "-n", "3") == 0)


def first_push(site: Site) -> None:
    """Pushes before any runner is online: the order waits, is claimed, and publishes an artifact."""
    step("A push to main, before any runner is online", f"git push; GitLab sends POST /hooks/{BUILD}")
    delivery = site.push("main")
    answer = site.send(delivery)
    say(f"   {answer.status} {answer.body}")
    expect("it is on the log, and created one order", _one_order(answer), answer)
    order = answer.body["orders"][0]
    waiting = site.fleet.get(f"orders/{order}")
    expect(f"the order waits for a runner: {_state(waiting)}", waiting["state"] in {"queued", "offered"}, waiting)

    step("Three runners join, each a process of its own", "muster agent --element runner1 …")
    for name in RUNNERS:
        site.fleet.runner(name)
    step("The first one claims the order; its live output", f"muster logs {order[:6]} --follow")
    site.fleet.command("logs", order, "--follow")
    ended = _built(site, order)
    expect(f"{ended['element']} claimed it in the first attempt", ended["attempt"] == 1, ended["attempt"])
    say(f"   {ended['outputs']['artifact']}")
    say("   was downloaded, checked against its checksum, and run: it is that commit")
    _same_again(site, delivery, answer)


def _same_again(site: Site, delivery: Delivery, first: Answer) -> None:
    step("GitLab repeats the delivery, as it does without an answer")
    again = site.send(delivery)
    say(f"   {again.status} {again.body}")
    same = again.body.get("firing") == first.body["firing"]
    expect("it is known: 200, the same firing", again.status == HTTPStatus.OK and same, again)
    expect("the answer marks it as a duplicate", again.body.get("duplicate"), again)
    expect("it created no second order", len(_orders(site, "build")) == 1, _orders(site, "build"))

    stranger = replace(delivery, headers={**delivery.headers, "X-Gitlab-Token": "guessed"})
    refused = site.send(stranger)
    expect("a hook with a wrong token is refused: 401", refused.status == HTTPStatus.UNAUTHORIZED, refused)


def many_pushes(site: Site) -> None:
    """Pushes several branches at once, and the work spreads."""
    step(f"{PUSHES} developers push at once, each a branch")
    names = [f"topic-{number}" for number in range(1, PUSHES + 1)]
    for name in names:
        site.developer.branch(name)
        site.developer.change("README.md", "", f"\nThought of on {name}.\n")
        site.developer.commit(f"Say that {name} was here")
    with ThreadPoolExecutor(PUSHES) as people:
        answers = list(people.map(lambda name: site.send(site.push(name)), names))
    expect("each created one order", all(_one_order(answer) for answer in answers), answers)
    orders = {name: _built(site, answer.body["orders"][0]) for name, answer in zip(names, answers, strict=True)}
    for name, order in orders.items():
        say(f"   {name}  {order['id'][:6]}  {order['state']} on {order['element']}, its artifact runs")
    spread = Counter(order["element"] for order in orders.values())
    expect(f"all three runners built: {_counted(spread)}", set(spread) == set(RUNNERS), spread)


def tag(site: Site) -> None:
    """A tag selects another trigger, and another pool."""
    step("A version is tagged: only runner3 has the tag `release`", "git push origin v1.0")
    site.developer.branch("main")
    site.developer.git("tag", "v1.0")
    site.developer.push("v1.0")
    delivery = site.gitlab.pushed("refs/tags/v1.0", NOTHING, site.head("v1.0"))
    ignored = site.send(delivery)
    expect(f"build-on-push ignores it: {ignored.body.get('ignored')}", ignored.body.get("ignored"), ignored)
    answer = site.send(delivery, "release-on-tag")
    expect("release-on-tag created one order", _one_order(answer), answer)
    ended = _built(site, answer.body["orders"][0])
    expect("runner3 built it", ended["element"] == "runner3", ended["element"])
    expect("the artifact equals that of main", len(site.artifacts.names) == PUSHES + 1)


def bad_commit(site: Site) -> None:
    """Pushes a commit that breaks a test, and deletes a branch."""
    step("A commit breaks a test")
    site.developer.branch("faster")
    site.developer.change("src/timespan/__init__.py", '"h": 3600', '"h": 60')
    commit = site.developer.commit("Make hours shorter")
    answer = site.send(site.push("faster"))
    expect("it created one order", _one_order(answer), answer)
    ended = site.fleet.final(answer.body["orders"][0])
    expect(f"the order failed: {ended['reason']}", ended["state"] == "failed" and "test" in ended["reason"], ended)
    expect("nothing was published", not any(commit in name for name in site.artifacts.names))
    expect("GitLab shows the commit as failed", site.gitlab.statuses[commit] == ["running", "failed"])
    step("Inspect the failure", "muster orders --state failed; muster logs … --job test")
    site.fleet.command("orders", "--state", "failed")
    site.fleet.command("logs", ended["id"], "--job", "test")

    step("The branch is deleted: GitLab reports this as a push too")
    site.developer.push(":faster")
    answer = site.send(site.gitlab.pushed("refs/heads/faster", commit, NOTHING))
    expect(f"it is ignored: {answer.body.get('ignored')}", answer.body.get("ignored"), answer)


def heartbeat(site: Site) -> None:
    """Checks the heartbeats of the whole run."""
    step("Meanwhile, every three seconds: the heartbeat of every machine", "muster firings heartbeat")
    whole = site.fleet.until("a heartbeat of all three runners", lambda: _answered(site), within=30)
    site.fleet.command("firings", "heartbeat")
    elements = sorted(order["element"] for order in whole)
    expect(f"one order for each: {', '.join(elements)}", elements == list(RUNNERS), elements)
    times = sorted(datetime.fromisoformat(firing["due"]) for firing in site.firings("heartbeat"))
    gaps = {later - earlier for earlier, later in pairwise(times)}
    expect(f"{len(times)} due times, none lost and no duplicate", gaps == {EVERY}, times)

    step("Every build, and why", f"muster firings {BUILD}")
    site.fleet.command("firings", BUILD)
    fired = [firing for firing in site.firings(BUILD) if firing["state"] == "fired"]
    expect(f"{PUSHES + 2} pushes created {PUSHES + 2} orders", len(fired) == PUSHES + 2, fired)


def _answered(site: Site) -> list[dict[str, Any]]:
    """Returns the orders of the last completed heartbeat; empty if there is none."""
    for firing in site.firings("heartbeat"):
        orders = [site.fleet.get(f"orders/{order}") for order in firing.get("orders", ())]
        if orders and all(order["state"] == "finished" for order in orders):
            return orders
    return []


def _built(site: Site, order: str) -> dict[str, Any]:
    """Waits for a build, and downloads, checks and runs its artifact."""
    ended = site.fleet.final(order)
    if ended["state"] != "finished":
        raise UnexpectedError(f"order {order} {_state(ended)}")
    outputs, commit = ended["outputs"], ended["inputs"]["commit"]
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(outputs["artifact"], timeout=30) as answer:
        data = answer.read()
    if hashlib.sha256(data).hexdigest() != outputs["sha256"]:
        raise UnexpectedError(f"the artifact of order {order} does not match its checksum")
    file = site.manifests / f"{order}.pyz"
    file.write_bytes(data)
    version = subprocess.run(
        [sys.executable, str(file), "--version"], capture_output=True, text=True, timeout=30, check=True
    ).stdout.strip()
    if not version.endswith(commit):
        raise UnexpectedError(f"the artifact of order {order} says {version!r}, not {commit}")
    if site.gitlab.statuses[commit][-1:] != ["success"]:
        raise UnexpectedError(f"GitLab has {site.gitlab.statuses[commit]} for {commit}")
    return ended


def _one_order(answer: Answer) -> bool:
    return answer.status == HTTPStatus.ACCEPTED and len(answer.body["orders"]) == 1


def _orders(site: Site, blueprint: str) -> list[str]:
    return [order["id"] for order in site.fleet.get("orders", blueprint=blueprint, limit=100)["items"]]


def _state(order: dict[str, Any]) -> str:
    return f"{order['state']}: {order['reason']}" if order.get("reason") else str(order["state"])


def _counted(spread: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(spread.items()))


PARTS: Final[tuple[Callable[[Site], None], ...]] = (apply, first_push, many_pushes, tag, bad_commit, heartbeat)
"""In the order of the example."""
