"""`python -m bench`: measure, and write the results down."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Final

from bench import hooks, latency, machine, memory, output, pools, replay, report, schedules, script, throughput
from bench.measure import Finding
from bench.plan import Plan

Measure = Callable[[Plan], Coroutine[None, None, list[Finding]]]

MEASURES: Final[tuple[tuple[Measure, frozenset[str]], ...]] = (
    (throughput.fast, frozenset({"G1"})),
    (throughput.safe, frozenset({"G2"})),
    (throughput.accepted, frozenset({"G3"})),
    (latency.both, frozenset({"G4", "G5"})),
    (script.scripts, frozenset({"G6"})),
    (memory.both, frozenset({"G7"})),
    (replay.replay, frozenset({"G8"})),
    (output.output, frozenset({"G10"})),
    (hooks.starts, frozenset({"G11"})),
    (hooks.rates, frozenset({"G12"})),
    (schedules.added, frozenset({"G13"})),
    (schedules.due, frozenset({"G14"})),
    (pools.pools, frozenset({"G15"})),
)
"""What finds what; G9 is checked in each."""

GATES: Final = sorted(frozenset().union(*(gates for _, gates in MEASURES)), key=lambda gate: int(gate[1:]))


def main(argv: list[str]) -> int:
    """Measure what was asked for; 1 if something is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", default=",".join(GATES), help="gates, with commas: G1,G4")
    parser.add_argument("--runs", type=int, default=3, help="pairs of floor and subject (default: 3)")
    parser.add_argument("--quick", action="store_true", help="a fifth of everything: shows that it works")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("RESULTS.md"), help="where the page goes")
    options = parser.parse_args(argv)
    chosen = {gate.strip().upper() for gate in options.only.split(",")}
    if unknown := sorted(chosen - set(GATES)):
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(GATES)}")
    plan = Plan(runs=options.runs, quick=options.quick)
    results = report.load(options.out.with_name("results.json"))
    results.machine = machine.describe()
    met = True
    for measure, gates in MEASURES:
        if not gates & chosen:
            continue
        found = asyncio.run(measure(plan))
        results.findings = report.merged(results.findings, found, gates)
        report.write(results, options.out)  # after each, so that an interruption loses one
        met = met and all(finding.is_met for finding in found)
        for finding in found:
            print(report.row(finding), end="")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
