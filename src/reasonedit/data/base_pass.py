"""The base pass: what the unedited model answers to the samples of a data set, and to their probes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from rich.console import Console
from rich.progress import Progress

from reasonedit.calibration.gathered import GatheredPictures
from reasonedit.errors import InputError, ReasonEditError
from reasonedit.groups import LOCALITIES
from reasonedit.matching import matches
from reasonedit.metrics import EditAccuracy, editing_metrics
from reasonedit.types import Edit, Query
from reasonedit.util.progress_lines import progress_on
from reasonedit.vlm import Reply
from reasonedit.vlm.generation import cut_off_message

from .layout import chunks, spread
from .probe_counts import ProbeCount, count_probes
from .shared_answers import SharedAnswers
from .source import EditSource, Probe

_FURTHER = 1024
"""Candidates, at most, whose pictures are looked at for a calibration alone: many may have the same one."""
_log = logging.getLogger(__name__)


@dataclass
class BasePass:
    """What the unedited model answers.

    Attributes:
        edits: The samples that it gets wrong.
        probes: Their probes; of the locality groups only those that it gets right.
        counts: By group how many there should be, and why some are not asked.
        answers: Its answer to each probe.
        metrics: Its share of right answers and the number of samples, by group.
        exact_match: Its share of exact matches, by group.
        contained: How many of its answers that are not right contain a right one.
        ms_per_query: Milliseconds per probe that was asked in this run, in batches of the stream's size. Where the
            answers to all were known, one batch was asked again for it.
        candidates: How many samples were asked to find the edits.
    """

    edits: list[Edit]
    probes: list[Probe]
    answers: list[str] = field(default_factory=list)
    counts: dict[str, ProbeCount] = field(default_factory=dict)
    metrics: dict[str, tuple[float, int]] = field(default_factory=dict)
    exact_match: dict[str, float] = field(default_factory=dict)
    contained: int = 0
    ms_per_query: float = 0.0
    candidates: int = 0


def ask_unedited(
    source: EditSource,
    answers: SharedAnswers,
    batch_size: int,
    *,
    probed: int | None = None,
    progress: bool = False,
    pool: GatheredPictures | None = None,
) -> BasePass:
    """Ask the unedited model for the samples that it gets wrong, and for their probes.

    Args:
        source: The data set.
        answers: The model.
        batch_size: Questions per batch.
        probed: How many edits are probed, spread evenly over all; all when not given.
        progress: Whether to show a bar.
        pool: Takes in the pictures that are asked about on the way to the edits, by the passes that answer them; where
            they are few, also those of samples that are not asked about.

    Raises:
        InputError: The model gets nothing wrong, or the source gives every rank other edits.
    """
    with progress_on(Console(stderr=True, quiet=not progress)) as bar:
        edits, right, asked = _ask_candidates(source, answers, batch_size, bar, pool)
        probes = source.probes(edits, right)
        answers.check_same_edits([*(e.id for e in edits), *(p.edit_id for p in probes)])
        chosen = [e.id for e in spread(edits, probed)]
        probes = [p for p in probes if p.edit_id in set(chosen)]
        replies, times = _ask_probes(probes, answers, batch_size, bar)
    cut_off = sum(reply.finish_reason == "length" for reply in replies)
    if cut_off and answers.rank == 0:
        _log.warning("The unedited model: %s", cut_off_message(cut_off, len(replies), answers.generation))
    used = [i for i, p in enumerate(probes) if p.group not in LOCALITIES or matches(replies[i].text, p.targets)]
    kept = [probes[i] for i in used]
    base = BasePass(edits, kept, [replies[i].text for i in used], count_probes(source, chosen, probes, kept))
    base.candidates = asked
    if probes and not times:
        times = [answers.answers.time([p.query for p in probes[:batch_size]])]
    base.ms_per_query = sum(times) / max(1, len(times))
    _fill_in_metrics(base)
    return base


def find_wrong(source: EditSource, answers: SharedAnswers, batch_size: int, *, progress: bool = False) -> list[Edit]:
    """The samples that the unedited model gets wrong; arguments and errors as for :func:`ask_unedited`."""
    with progress_on(Console(stderr=True, quiet=not progress)) as bar:
        return _ask_candidates(source, answers, batch_size, bar)[0]


def _ask_probes(
    probes: Sequence[Probe], answers: SharedAnswers, batch_size: int, bar: Progress
) -> tuple[list[Reply], list[float]]:
    """Ask the probes: the reply to each, and the milliseconds that each took of which the answer was not known."""
    task = bar.add_task("asking the unedited model", total=len(probes))
    replies: list[Reply] = []
    times: list[float] = []
    batches = [[p.query for p in batch] for batch in chunks(probes, batch_size)]
    for at_once in chunks(batches, answers.ranks):
        for batch_replies, batch_times in answers.ask(at_once):
            replies, times = replies + batch_replies, times + [ms for ms in batch_times if ms is not None]
        bar.update(task, completed=len(replies))
    return replies, times


def _fill_in_metrics(base: BasePass) -> None:
    """Fill in the metrics of a base pass."""
    metrics = editing_metrics()
    metrics.update(base.answers, [p.targets for p in base.probes], [p.group for p in base.probes])
    for group, metric in metrics.items():
        assert isinstance(metric, EditAccuracy)
        if metric.total > 0:
            base.metrics[group] = (float(metric.right / metric.total), int(metric.total))
            base.exact_match[group] = int(metric.exact) / int(metric.total)
            base.contained += int(metric.contained)


def gather_candidates(
    source: EditSource, answers: SharedAnswers, batch_size: int, count: int, pool: GatheredPictures
) -> None:
    """Take in the pictures that an earlier base pass took in; each rank sees its share.

    Args:
        source: The data set.
        answers: The model.
        batch_size: Questions per batch.
        count: How many candidates were asked.
        pool: Takes them in.
    """
    for number, batch in enumerate(chunks(list(islice(source.candidates(), count)), batch_size)):
        pool.take([edit.image for edit in batch], mine=number % answers.ranks == answers.rank)
    _fill_up(source, answers, batch_size, count, pool)


def _fill_up(source: EditSource, answers: SharedAnswers, batch_size: int, count: int, pool: GatheredPictures) -> None:
    """Take in the pictures of the candidates behind the first, which nobody asks about, until there are enough."""
    number = 0
    further = _while_readable(islice(source.candidates(), count, count + _FURTHER)) if pool.wanted else iter(())
    while pool.wanted and (batch := list(islice(further, batch_size))):
        pool.take([edit.image for edit in batch][: pool.wanted], mine=number % answers.ranks == answers.rank)
        number += 1


def _while_readable(candidates: Iterator[Edit]) -> Iterator[Edit]:
    """Candidates up to the first that cannot be read: a run does not end for what it does not ask about."""
    try:
        yield from candidates
    except ReasonEditError as error:
        _log.warning("No further pictures are taken in for the calibration: %s", error)


def _ask_candidates(
    source: EditSource, answers: SharedAnswers, batch_size: int, bar: Progress, pool: GatheredPictures | None = None
) -> tuple[list[Edit], list[str], int]:
    """Ask candidates until there are edits enough.

    Returns:
        The edits, the ids of what was answered rightly, and how many were asked.
    """
    task = bar.add_task("finding errors", total=source.edits)
    edits: list[Edit] = []
    right: list[str] = []
    count = 0
    answers.answers.layers = pool.embedder.layers if pool is not None else ()
    candidates = source.candidates()
    while len(edits) < source.edits and (samples := list(islice(candidates, answers.ranks * batch_size))):
        batches = list(chunks(samples, batch_size))
        queries = [[Query(e.image, e.question, e.choices, e.id) for e in batch] for batch in batches]
        for rank, (asked, (replies, _)) in enumerate(zip(batches, answers.ask(queries), strict=True)):
            if len(edits) >= source.edits:
                break  # a single rank would not have asked
            count += len(asked)
            if pool is not None:
                pool.take([edit.image for edit in asked], answers.answers.seen, mine=rank == answers.rank)
            for edit, reply in zip(asked, replies, strict=True):
                if matches(reply.text, edit.targets):
                    right.append(edit.id)
                else:
                    edits.append(edit)
        bar.update(task, completed=min(len(edits), source.edits))
    if not edits:
        raise InputError("The model gets no sample of the data set wrong: there is nothing to edit.")
    answers.answers.layers = ()
    if pool is not None:
        _fill_up(source, answers, batch_size, count, pool)
    return edits[: source.edits], right, count
