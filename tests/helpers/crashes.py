"""Loops over what can go wrong at each moment of writing: kills, errors of the disk, power cuts."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from .faults import (
    FAIL,
    FAIL_FROM_HERE,
    HALF_THEN_FAIL,
    HALF_THEN_KILL,
    KILL,
    SHORT,
    FaultyProcesses,
    Outcome,
    run_with_faults,
)
from .harnesses import Bench, Tally, find_problem, make_empty
from .powercut import Disk, lay_out
from .recorder import Call, Recorder, acknowledges
from .scenarios import SCENARIOS, Seen


def kills(scratch: Path, every: int = 1) -> Tally:
    """A kill before each call that writes, and in the middle of each write."""
    tally, bench = Tally("kills at chosen events"), Bench(scratch)
    with run_with_faults(scratch) as processes:
        for name, at, letter in _calls(bench, processes, every):
            for kind in (KILL, HALF_THEN_KILL) if letter == "w" else (KILL,):
                ran = processes.run(name, bench.prepare(name), kind, at)
                assert ran.killed
                tally.tried += 1
                bench.judge(tally, name, len(ran.acknowledged), f"killed at call {at} ({letter})")
    return tally


def disk_errors(scratch: Path, every: int = 2) -> Tally:
    """Each call that writes fails once, or from then on, or writes by half."""
    tally, bench = Tally("input and output errors"), Bench(scratch)
    codes = (errno.ENOSPC, errno.EIO, errno.EDQUOT)
    with run_with_faults(scratch) as processes:
        for name, at, letter in _calls(bench, processes, every):
            ways = [(FAIL, codes[at % 3]), (FAIL_FROM_HERE, errno.ENOSPC)]
            ways += [(SHORT, 0), (HALF_THEN_FAIL, codes[at % 3])] if letter == "w" else []
            ways += [(FAIL, errno.EINTR)] if letter in "ows" else []
            for kind, code in ways:
                ran = processes.run(name, bench.prepare(name), kind, at, code)
                tally.tried += 1
                _judge_faulty(tally, bench, name, ran, f"way {kind} with error {code} at call {at} ({letter})")
    return tally


def _judge_faulty(tally: Tally, bench: Bench, name: str, ran: Outcome, how: str) -> None:
    seen = {book: Seen(*texts) for book, texts in ran.seen.items()}
    kind, description = find_problem(seen, bench.expected[name][len(ran.acknowledged) :][:2])
    if kind:
        tally.fail(kind, f"{name}, {how}: {description}")
    elif ran.raw:
        tally.fail("raw errors", f"{name}, {how}: {ran.raw}")
    elif "\n" in ran.error.strip() or len(ran.error) > 1000:
        tally.fail("errors of more than a sentence", f"{name}, {how}: {ran.error}")
    elif ran.again:
        tally.fail("processes that do not go on", f"{name}, {how}: {ran.error} {ran.again}")
    else:
        bench.check_settled(tally, name, how)


def _calls(bench: Bench, processes: FaultyProcesses, every: int) -> Iterator[tuple[str, int, str]]:
    """Each scenario with the number and the kind of each of its calls."""
    for name in bench.expected:
        for at, letter in list(enumerate(processes.run(name, bench.prepare(name)).calls, 1))[
            :: every * SCENARIOS[name].stride
        ]:
            yield name, at, letter


def power_cuts(scratch: Path, samples: int = 2, seed: int = 0) -> Tally:
    """States that the disk may be in when the power goes after each call that changes something."""
    tally, bench, rng = Tally("states after a power cut"), Bench(scratch), random.Random(seed)
    recorder = Recorder(scratch)
    try:
        for name in bench.expected:
            disk, stride = Disk(bench.prepare(name)), SCENARIOS[name].stride
            for acknowledged, state in _cuts(disk, recorder.record(name, bench.root), rng, samples):
                make_empty(bench.root)
                lay_out(state, bench.root)
                tally.tried += 1
                bench.judge(tally, name, acknowledged, f"state {tally.tried}", retry=not tally.tried % (3 * stride))
    finally:
        recorder.close()
    return tally


def _cuts(
    disk: Disk, calls: Sequence[Call], rng: random.Random, samples: int
) -> Iterator[tuple[int, dict[str, bytes | None]]]:
    """How many steps were acknowledged, and what may lie there, no two of them alike."""
    known, acknowledged = set[object](), 0
    edges = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0))
    for call in calls:
        acknowledged += acknowledges(call)
        if not disk.replay(call) and not acknowledges(call):
            continue
        for names, data in [*edges, *((rng.choice((0.3, 0.5, 0.8)), rng.random()) for _ in range(samples))]:
            state = disk.crash(rng, names, data)
            key = (acknowledged, tuple(sorted(state.items(), key=lambda item: item[0])))
            if key not in known:
                known.add(key)
                yield acknowledged, state
