"""The order of a stream: which questions come in one batch, and which rank asks them in which step."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from reasonedit.types import Edit, Query

from .source import Probe

T = TypeVar("T")


@dataclass
class StreamItem:
    """One question of a stream, and what it is for.

    Attributes:
        query: The question.
        answer: The right answer.
        phase: ``"edit"``, ``"check"`` or ``"probe"``.
        group: The group of probes; empty for an edit.
        edit: The edit to write if the answer is wrong.
        edit_id: The edit that it is or belongs to.
        before: What the unedited model answered, to a probe.
        answers: All right answers, where there are several.
        round: The round of probes that it is of, or comes before: 1 for the first.
    """

    query: Query
    answer: str
    phase: str
    group: str = ""
    edit: Edit | None = None
    edit_id: str = ""
    before: str | None = None
    answers: list[str] = field(default_factory=list)
    round: int = 1


@dataclass
class Step:
    """One step of one rank.

    Attributes:
        number: The step's number, the same on all ranks.
        phase: The phase, the same on all ranks.
        items: Questions; there may be none.
        positions: Their places in the stream.
        round: The round of probes, as in the items.
    """

    number: int
    phase: str
    items: list[StreamItem]
    positions: list[int]
    round: int = 1


def lay_out(
    edits: Sequence[Edit],
    probes: Sequence[tuple[Probe, str]],
    *,
    stops: Sequence[int],
    batch_size: int,
    sample: int | None = None,
    check: bool = False,
    alone: bool = False,
) -> list[list[StreamItem]]:
    """The batches of a stream, in order.

    Args:
        edits: The edits.
        probes: Their probes, each with what the unedited model answered.
        stops: After how many edits there are probes; the last stop is the number of all edits.
        batch_size: Questions per batch; a batch never mixes edits with probes.
        sample: How many of the edits so far that have probes are probed before the end; all when not given.
        check: Whether edits come one at a time, and each is asked again right after it.
        alone: Whether only the edits since the last stop are probed.
    """
    batches: list[list[StreamItem]] = []
    start = 0
    probed = {probe.edit_id for probe, _ in probes}
    for number, end in enumerate(stops, 1):
        edits_now = [_item_of(edit, number) for edit in edits[start:end]]
        if check:
            for item in edits_now:
                batches += [[item], [replace(item, phase="check", edit=None)]]
        else:
            batches += chunks(edits_now, batch_size)
        so_far = [e.id for e in edits[start if alone else 0 : end] if e.id in probed]
        asked = set(so_far if alone or end == len(edits) else spread(so_far, sample))
        questions = [
            StreamItem(
                *(p.query, p.answer, "probe", p.group),
                edit_id=p.edit_id,
                before=before,
                answers=p.answers,
                round=number,
            )
            for p, before in probes
            if p.edit_id in asked
        ]
        batches += chunks(questions, batch_size)
        start = end
    return batches


def _item_of(edit: Edit, number: int) -> StreamItem:
    query = Query(edit.image, edit.question, edit.choices, edit.id)
    return StreamItem(query, edit.answer, "edit", edit=edit, edit_id=edit.id, answers=edit.answers, round=number)


def share_out(batches: Sequence[list[StreamItem]], ranks: int = 1) -> list[Step]:
    """The steps of all ranks: that of rank 0, of rank 1, …, the next of rank 0, and so on.

    The ranks share each batch of edits, and take turns with the batches of probes.

    Args:
        batches: The batches of the stream, in order.
        ranks: How many ranks there are; each has as many steps as the others.
    """
    blocks = deque(batches)
    steps: list[Step] = []
    place = 0
    while blocks:
        phase, number_of_round = blocks[0][0].phase, blocks[0][0].round
        parts: list[list[tuple[int, StreamItem]]] = []
        while blocks and blocks[0][0].phase == phase and len(parts) < ranks:
            block = list(enumerate(blocks.popleft(), place))
            place += len(block)
            # Nothing is learnt from a probe, so its batches stay whole, as a single rank asks them.
            parts += [block] if phase == "probe" else _shares(block, ranks)
        number = len(steps) // ranks
        for part in parts + [[]] * (ranks - len(parts)):
            items, positions = [item for _, item in part], [at for at, _ in part]
            steps.append(Step(number, phase, items, positions, number_of_round))
    return steps


def _shares(block: Sequence[tuple[int, StreamItem]], ranks: int) -> list[list[tuple[int, StreamItem]]]:
    """Share a batch of edits so that each rank has about as many sentences to find evidence for."""
    shares: list[list[tuple[int, StreamItem]]] = [[] for _ in range(ranks)]
    loads = [0] * ranks
    costs = [1 + sum(not given for given in item.edit.evidence) if item.edit else 1 for _, item in block]
    for i in sorted(range(len(block)), key=lambda i: -costs[i]):
        rank = loads.index(min(loads))
        shares[rank].append(block[i])
        loads[rank] += costs[i]
    return [sorted(share, key=lambda numbered: numbered[0]) for share in shares]


def spread(values: Sequence[T], count: int | None) -> Sequence[T]:
    """``count`` of the values, spread evenly over all; all where there are no more than that."""
    if count is None or len(values) <= count:
        return values
    return [values[i * len(values) // count] for i in range(count)]


def chunks(values: Sequence[Any], size: int) -> Iterator[list[Any]]:
    """The values in lists of ``size``; the last may be shorter."""
    for start in range(0, len(values), size):
        yield list(values[start : start + size])
