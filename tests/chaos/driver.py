"""Orders of all kinds while everything is killed at random; then the invariants, from the log and the record.

`python -m tests.chaos.driver --seconds 600` is the long form; the seed that it prints makes the same
choices again (not the same moments: the machine has a will of its own).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from muster.broker.state.loss import MOST_LOST
from tests.kit import record
from tests.kit.blueprints import WITNESS, blueprint, machine, script
from tests.kit.roles import ENDS, Roles
from tests.kit.waiting import eventually

AGENTS: Final = ("c1", "c2")
PARTS: Final = ("server", "broker", *AGENTS)
FAULTS: Final = (
    ("c1",),
    ("c2",),
    AGENTS,
    ("broker",),
    ("broker",),
    ("server",),
    ("server",),
    ("server", "broker"),
    ("broker", "c1"),
    PARTS,
)
"""Who is killed together; an entry that occurs twice happens more often."""

RECOVERY: Final = 60.0
"""Seconds after the last fault in which every order must have ended."""

REASONS: Final = {
    "fails": ("task 'bad' failed", "lost:"),
    "once": ("must not run twice",),
    "family": ("cancelled by order",),  # a child that was cancelled with its parent, which was then retried
}
"""Why an order of a blueprint may fail, besides the loss of agents as often as any order may lose them."""

INPUTS: Final = {"file": {"type": "string"}, "pause": {"type": "number", "default": 0.1}}


def task(name: str, **more: Any) -> dict[str, Any]:
    """A task that takes a moment, and records its run."""
    return script(name, f'{WITNESS}for _ in 1 2 3; do sleep "$INPUT_PAUSE"; say tick; done\nsay end\n', **more)


def order_task(name: str, **fields: Any) -> dict[str, Any]:
    """A task that makes a child order."""
    inputs = {"file": "{{ inputs.file }}", "pause": "{{ inputs.pause }}"}
    return {"name": name, "uses": "order", "with": {"blueprint": "steps", "inputs": inputs, **fields}}


def manifests() -> list[dict[str, Any]]:
    """Everything that chaos runs."""
    retry = script(
        "flaky",
        f'{WITNESS}say end\n[ "$MUSTER_ATTEMPT" -gt 1 ]',
        retry={"attempts": 4, "delay": "100ms"},
    )
    wait = {"name": "pause", "uses": "wait", "with": {"for": "5500ms"}}
    return [
        machine("c1", slots=3),
        machine("c2", slots=2),
        {"kind": "pool", "name": "both", "where": 'element.name in ["c1", "c2"]'},
        blueprint("steps", task("a"), task("b"), inputs=INPUTS),
        blueprint("once", task("only", idempotent=False), inputs=INPUTS),
        blueprint("flaky", retry, task("then"), inputs=INPUTS),
        blueprint("waits", task("a"), wait, task("b"), inputs=INPUTS),
        blueprint("family", order_task("kin", pool="both"), task("own"), order_task("twin"), inputs=INPUTS),
        blueprint("fails", task("a"), script("bad", "exit 3"), inputs=INPUTS, always=[task("tidy")]),
    ]


class Report(msgspec.Struct, kw_only=True):
    """What happened, for whoever reads the output."""

    seed: int
    faults: list[str] = []
    states: dict[str, int] = {}
    failures: dict[str, int] = {}
    """Blueprint and reason of what failed, and how often."""
    orders: int = 0


class Driver:
    """Makes orders and trouble until the time has passed."""

    def __init__(self, mesh: Roles, folder: Path, seed: int) -> None:
        self.report = Report(seed=seed)
        self._mesh = mesh
        self._file = folder / "lines"
        self._random = random.Random(seed)
        self._accepted: dict[str, str] = {}
        self._over = asyncio.Event()
        self._began = time.monotonic()

    async def run(self, seconds: float) -> Report:
        """Chaos, recovery, and the checks."""
        await self._mesh.apply(*manifests())
        async with asyncio.TaskGroup() as group:
            group.create_task(self._make_orders(group))
            group.create_task(self._make_trouble())
            await self._pause(seconds)
            self._over.set()
        await self._recover()
        await self._check()
        return self.report

    async def _pause(self, seconds: float) -> None:
        """So long, or until it has ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._over.wait()

    # -- orders ---------------------------------------------------------------------------------

    async def _make_orders(self, group: asyncio.TaskGroup) -> None:
        while not self._over.is_set():
            group.create_task(self._make_order(f"chaos-{self.report.seed}-{self.report.orders}", self._wish()))
            self.report.orders += 1
            await self._pause(self._random.uniform(0.1, 0.5))

    def _wish(self) -> dict[str, Any]:
        name = self._random.choice(["steps", "steps", "once", "flaky", "waits", "family", "fails"])
        target = self._random.choice([{"on": "c1"}, {"on": "c2"}, {"pool": "both"}])
        inputs = {"file": str(self._file), "pause": round(self._random.uniform(0.02, 0.3), 2)}
        return {"blueprint": name, "inputs": inputs, **target}

    async def _make_order(self, key: str, wish: dict[str, Any]) -> None:
        fate = self._random.random()
        order = await self._insist("orders", wish, key)
        if order is None:
            return
        self._accepted[key] = order["orders"][0]["id"]
        if fate < 0.2:
            await self._pause(fate * 10)
            await self._insist(f"orders/{self._accepted[key]}/cancel", None, "")
        if fate < 0.1 or fate > 0.8:
            await self._pause(fate * 10)
            await self._insist(f"orders/{self._accepted[key]}/retry", None, "")

    async def _insist(self, path: str, body: Any, key: str) -> dict[str, Any] | None:
        """Ask until somebody answers; the key makes it one order. None if it was refused."""
        end = time.monotonic() + RECOVERY
        while time.monotonic() < end:
            headers = {"Idempotency-Key": key} if key else {}
            with contextlib.suppress(httpx.TransportError):
                answer = await self._mesh.http.post(f"/api/v1/{path}", json=body, headers=headers)
                if answer.is_success:
                    found: dict[str, Any] = answer.json()
                    return found
                if answer.status_code < 500:
                    assert not key, answer.text
                    return None
            with contextlib.suppress(TimeoutError):  # also when it has ended: this order may be on the log
                async with asyncio.timeout(0.2):
                    await asyncio.Event().wait()
        raise AssertionError(f"nobody answered POST {path} for {RECOVERY:g} s")

    # -- trouble --------------------------------------------------------------------------------

    async def _make_trouble(self) -> None:
        while not self._over.is_set():
            await self._pause(self._random.uniform(0.3, 3))
            victims = self._random.choice(FAULTS)
            away = self._random.choice([0, 0, 0.5, 2, 5])
            self._note(f"{' '.join(victims)} for {away} s")
            self._none_died_by_itself()
            await self._mesh.kill(*victims)
            await self._pause(away)
            for part in victims:
                await self._mesh.start(part)

    def _note(self, words: str) -> None:
        self.report.faults.append(f"{time.monotonic() - self._began:6.1f} s: {words}")

    def _none_died_by_itself(self) -> None:
        for name in PARTS:
            program = self._mesh.programs[name]
            assert program.process.returncode is None, f"{name} ended by itself: {program}"

    async def _recover(self) -> None:
        self._note("peace")
        self._none_died_by_itself()

        async def ended() -> bool:
            reported = await record.replay(self._mesh.plain_url)
            return not reported.state.orders

        await eventually(ended, RECOVERY, "an end of every order")

    # -- invariants -----------------------------------------------------------------------------

    async def _check(self) -> None:
        reported = await record.replay(self._mesh.plain_url)
        accepted = list(self._accepted.values())
        assert len(accepted) == len(set(accepted)) == self.report.orders, "a key made no order, or somebody else's"
        record.check_endings(reported, accepted)
        lines = record.read_lines(self._file)
        record.check_lines(lines, reported)
        first = [line for line in lines if line.word == "start" and line.order not in reported.retries]
        starts = Counter(line.order for line in first if line.job == "only")
        assert all(count == 1 for count in starts.values()), f"what must not run twice did: {starts.most_common(3)}"
        await self._mesh.quiet()
        before, after = await self._mesh.rebuilt()
        assert not record.difference(before, after), record.difference(before, after)
        states = Counter(row[2] for row in before["orders"])
        assert set(states) <= ENDS
        self.report.states = dict(states)
        orders = [msgspec.json.decode(row[-1]) for row in before["orders"]]
        failed = [order for order in orders if order["state"] == "failed"]
        self.report.failures = dict(Counter(f"{order['blueprint']}: {order['reason']}" for order in failed))
        unexplained = [order for order in failed if not _may_fail(order)]
        assert not unexplained, f"failed without a fault that explains it: {unexplained[:3]}"


def _may_fail(order: dict[str, Any]) -> bool:
    reasons = (*REASONS.get(order["blueprint"], ()), f"its agent was gone {MOST_LOST} times while it ran")
    return any(reason in order["reason"] for reason in reasons)


async def chaos(folder: Path, seed: int, seconds: float) -> Report:
    """One run, in a folder of its own."""
    async with Roles.started(folder, *AGENTS) as mesh:
        driver = Driver(mesh, folder, seed)
        try:
            return await driver.run(seconds)
        except BaseException:
            sys.stderr.write(f"chaos seed {seed}, folder {folder}\n" + "\n".join(driver.report.faults) + "\n")
            raise


def main() -> None:
    """The soak: until the time has passed, or something breaks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(10**6)
    sys.stdout.write(f"chaos for {given.seconds:g} s, seed {seed}\n")
    with tempfile.TemporaryDirectory(prefix="muster-chaos-") as folder:
        report = asyncio.run(chaos(Path(folder), seed, given.seconds))
    sys.stdout.write("\n".join(report.faults) + f"\n{report.orders} orders made, in the end {report.states}\n")
    sys.stdout.writelines(f"{count} failed: {reason}\n" for reason, count in report.failures.items())


if __name__ == "__main__":
    main()
