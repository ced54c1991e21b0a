"""Edit streams for ``trainer.predict``."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any, NoReturn

import lightning as L
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from reasonedit.edits import Edit, Query
from reasonedit.errors import ReasonEditError
from reasonedit.metrics import EditAccuracy, editing_metrics, matches
from reasonedit.ranks import exchange, launched_elsewhere
from reasonedit.vlm import VLM, Generation, Reply, generation_of
from reasonedit.vlm.generation import cut_off

from .answers import Answers
from .source import KEPT_IF_RIGHT, EditSource, Probe
from .world.benchmark import EmbeddedWorld

_log = logging.getLogger(__name__)

DATASETS = {"world": EmbeddedWorld}


@dataclass
class StreamItem:
    """One step of a stream: a question, and what it is for.

    Attributes:
        query: The question.
        answer: The right answer.
        phase: ``"edit"``, ``"check"`` or ``"probe"``.
        group: The group of probes; empty for an edit.
        edit: The edit to write if the answer is wrong.
        edit_id: The edit that it is or belongs to.
        before: What the unedited model answered, to a probe.
        answers: All right answers, where there are several.
    """

    query: Query
    answer: str
    phase: str
    group: str = ""
    edit: Edit | None = None
    edit_id: str = ""
    before: str | None = None
    answers: list[str] = field(default_factory=list)


@dataclass
class Step:
    """What one rank does while the others do theirs.

    Attributes:
        number: The step's number, the same on all ranks.
        phase: That of all ranks in this step.
        items: Questions; there may be none.
        positions: Their places in the stream.
    """

    number: int
    phase: str
    items: list[StreamItem]
    positions: list[int]


@dataclass
class BasePass:
    """What the unedited model says.

    Attributes:
        edits: The samples it gets wrong.
        probes: Their probes; of the locality groups only those it gets right.
        answers: Its answer to each probe.
        metrics: Its share of right answers and the number of samples, by group.
        exact_match: Its share of exact matches, by group.
        contained: How many of its answers that are not right contain a right one.
        ms_per_query: Milliseconds per probe when it was asked, in batches of the stream's size.
    """

    edits: list[Edit]
    probes: list[Probe]
    answers: list[str] = field(default_factory=list)
    metrics: dict[str, tuple[float, int]] = field(default_factory=dict)
    exact_match: dict[str, float] = field(default_factory=dict)
    contained: int = 0
    ms_per_query: float = 0.0


class _Steps(Dataset[Step]):
    def __init__(self, steps: list[Step]) -> None:
        self.steps = steps

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> Step:
        return self.steps[index]


class EditStream(L.LightningDataModule):
    """A stream of edits and probes.

    First the base pass asks the unedited model: the samples it gets wrong are the edits. Then come the edits in order,
    then the probes; or, with ``interleave``, n edits, the probes of all edits so far, n more edits, and so on.

    On several devices a batch of edits is shared out among the ranks, and of the batches of probes each rank takes its
    turn. All take the same number of steps, with nothing to do in some; so a question sees the edits of all batches
    before its own, and no others, however many ranks there are.

    Args:
        source: ``"world"`` (the embedded world), or any :class:`~reasonedit.data.source.EditSource`.
        batch_size: Questions per batch; a batch never mixes edits with probes.
        interleave: Probe after every so many edits, or after the numbers of edits that are listed; and after all edits,
            in any case.
        sample: Before the end only the probes of so many of the edits so far are asked, spread evenly over them; of all
            when not given.
        probed: Probes of so many edits only, spread evenly over all, are ever asked; of all when not given.
        check: Whether edits come one at a time, each asked again right after it (phase ``check``, of no group).

    Raises:
        ReasonEditError: An argument is out of range, or the source is unknown.
    """

    def __init__(
        self,
        source: EditSource | str = "world",
        batch_size: int = 8,
        interleave: int | list[int] | None = None,
        sample: int | None = None,
        probed: int | None = None,
        check: bool = False,
    ) -> None:
        super().__init__()
        if isinstance(source, str):
            if source not in DATASETS:
                raise ReasonEditError(f"There is no data set '{source}': use {', '.join(DATASETS)}.")
            source = DATASETS[source]()
        stops = interleave if isinstance(interleave, list) else [interleave]
        for name, values in (
            ("batch_size", [batch_size]),
            ("interleave", stops),
            ("sample", [sample]),
            ("probed", [probed]),
        ):
            for value in values:
                if value is not None and value < 1:
                    raise ReasonEditError(f"{name} must be 1 or more, not {value}.")
        self.source: EditSource = source
        if source.edits < 1:  # asked for here, as a data set reads its rows then: before any model is loaded
            raise ReasonEditError(f"edits must be 1 or more, not {source.edits}.")
        self.batch_size = batch_size
        self.interleave = interleave
        self.sample, self.probed, self.check = sample, probed, check
        self.base: BasePass | None = None
        self._asked: object = None  # the model that the base pass asked, and how

    def predict_dataloader(self) -> DataLoader[Step]:
        """Run the base pass, unless it is done, and lay out the stream.

        Raises:
            ReasonEditError: There is no trainer, or its module has no VLM that could be asked; or its processes are
                forked or spawned.
        """
        if self.trainer is None:
            raise ReasonEditError("EditStream makes its loader inside a trainer: hand it over as a datamodule.")
        refused = launched_elsewhere(self.trainer)
        if refused is not None:
            raise refused
        module = self.trainer.lightning_module
        vlm = getattr(module, "vlm", None)
        if not isinstance(vlm, VLM):
            raise ReasonEditError("EditStream needs a module whose attribute 'vlm' is a reasonedit VLM.")
        show = self.trainer.progress_bar_callback is not None and self.trainer.is_global_zero
        ranks = self.trainer.world_size
        self.base_pass(vlm, generation_of(module), progress=show, trainer=self.trainer)
        steps = _Steps(self.steps(ranks))
        # Every rank's steps are among each so many in a row: what this sampler deals out, whoever asks for one.
        turns: DistributedSampler[Step] | None = None
        if ranks > 1:
            turns = DistributedSampler(steps, ranks, self.trainer.global_rank, shuffle=False)
        # A step is a whole batch, so that the order and the borders between phases are the stream's own.
        return DataLoader(steps, batch_size=None, sampler=turns, collate_fn=collate)  # type: ignore[arg-type]

    def train_dataloader(self) -> NoReturn:
        """Refused: see :meth:`predict_dataloader`.

        Raises:
            ReasonEditError: Always.
        """
        raise ReasonEditError(
            "An EditStream runs in trainer.predict, where its edits are written between its questions: use that in "
            "place of fit, validate and test."
        )

    val_dataloader = test_dataloader = train_dataloader

    def base_pass(
        self,
        vlm: VLM,
        generation: Generation | None = None,
        *,
        progress: bool = False,
        trainer: L.Trainer | None = None,
    ) -> BasePass:
        """Ask the unedited model, once: what it said is kept on disk, see :class:`~reasonedit.data.answers.Answers`.

        Args:
            vlm: The model.
            generation: How it answers.
            progress: Whether to show a bar.
            trainer: The trainer whose ranks share the work, where there are several.

        Raises:
            ReasonEditError: The model gets nothing wrong.
        """
        generation = generation or Generation()
        asked_of = (vlm.identity, generation)
        if self.base is not None and self._asked == asked_of:
            return self.base
        answers = _Asked(Answers(vlm, generation), trainer)
        with _bar(progress) as bar:
            edits, right = self._wrong(answers, bar)
            probes = self.source.probes(edits, right)
            answers.agree([*(e.id for e in edits), *(p.edit_id for p in probes)])
            if self.probed is not None:
                chosen = {e.id for e in _spread(edits, self.probed)}
                probes = [p for p in probes if p.edit_id in chosen]
            task = bar.add_task("asking the unedited model", total=len(probes))
            told: list[str] = []
            cut, taken = 0, list[float]()
            batches = [[p.query for p in batch] for batch in _chunks(probes, self.batch_size)]
            for some in _chunks(batches, answers.ranks):
                for replies, ms in answers.ask(some):
                    told, taken = told + [reply.text for reply in replies], taken + ms
                    cut += sum(reply.finish_reason == "length" for reply in replies)
                bar.update(task, completed=len(told))
        kept = [i for i, p in enumerate(probes) if p.group not in KEPT_IF_RIGHT or matches(told[i], p.targets)]
        base = BasePass(edits, [probes[i] for i in kept], [told[i] for i in kept])
        base.ms_per_query = sum(taken) / max(1, len(taken))
        counted = editing_metrics()
        counted.update(base.answers, [p.targets for p in base.probes], [p.group for p in base.probes])
        for group, metric in counted.items():
            assert isinstance(metric, EditAccuracy)
            if metric.total > 0:
                base.metrics[group] = (float(metric.right / metric.total), int(metric.total))
                base.exact_match[group] = float(metric.exact / metric.total)
                base.contained += int(metric.contained)
        answers.close()
        if cut and answers.rank == 0:
            _log.warning("The unedited model: %s", cut_off(cut, len(told), generation))
        self.base, self._asked = base, asked_of
        return base

    def find_edits(self, vlm: VLM, generation: Generation | None = None, *, progress: bool = False) -> list[Edit]:
        """What the unedited model gets wrong, without probes of it; arguments as in :meth:`base_pass`.

        Raises:
            ReasonEditError: The model gets nothing wrong.
        """
        answers = _Asked(Answers(vlm, generation or Generation()))
        with _bar(progress) as bar:
            edits, _ = self._wrong(answers, bar)
        answers.close()
        return edits

    def _wrong(self, answers: _Asked, bar: Progress) -> tuple[list[Edit], list[str]]:
        """The edits, and the ids of what was answered rightly on the way to them."""
        task = bar.add_task("finding errors", total=self.source.edits)
        edits: list[Edit] = []
        right: list[str] = []
        candidates = self.source.candidates()
        while len(edits) < self.source.edits and (some := list(islice(candidates, answers.ranks * self.batch_size))):
            batches = list(_chunks(some, self.batch_size))
            queries = [[Query(e.image, e.question, e.choices, e.id) for e in batch] for batch in batches]
            for asked, (replies, _) in zip(batches, answers.ask(queries), strict=True):
                if len(edits) >= self.source.edits:
                    break  # a single rank would not have asked
                for edit, reply in zip(asked, replies, strict=True):
                    if matches(reply.text, edit.targets):
                        right.append(edit.id)
                    else:
                        edits.append(edit)
            bar.update(task, completed=min(len(edits), self.source.edits))
        if not edits:
            raise ReasonEditError("The model gets no sample of the data set wrong: there is nothing to edit.")
        return edits[: self.source.edits], right

    def layout(self) -> list[list[StreamItem]]:
        """The batches of the stream, in order.

        Raises:
            ReasonEditError: The base pass has not run.
        """
        if self.base is None:
            raise ReasonEditError("The base pass has not run: call base_pass(vlm) first.")
        batches: list[list[StreamItem]] = []
        edits, done = self.base.edits, 0
        told = list(zip(self.base.probes, self.base.answers, strict=True))
        for end in self._stops(len(edits)):
            made = [
                StreamItem(
                    Query(e.image, e.question, e.choices, e.id),
                    e.answer,
                    "edit",
                    edit=e,
                    edit_id=e.id,
                    answers=e.answers,
                )
                for e in edits[done:end]
            ]
            if self.check:
                for item in made:
                    batches += [[item], [replace(item, phase="check", edit=None)]]
            else:
                batches += _chunks(made, self.batch_size)
            last = end == len(edits)
            asked = {e.id for e in (edits if last else _spread(edits[:end], self.sample))}
            probes = [
                StreamItem(p.query, p.answer, "probe", p.group, edit_id=p.edit_id, before=before, answers=p.answers)
                for p, before in told
                if p.edit_id in asked
            ]
            batches += _chunks(probes, self.batch_size)
            done = end
        return batches

    def steps(self, ranks: int = 1) -> list[Step]:
        """The steps of all ranks: that of rank 0, of rank 1, …, the next of rank 0, and so on.

        Args:
            ranks: How many there are. There are as many steps of each.

        Raises:
            ReasonEditError: The base pass has not run.
        """
        blocks = deque(self.layout())
        made: list[Step] = []
        place = 0
        while blocks:
            phase = blocks[0][0].phase
            parts: list[list[tuple[int, StreamItem]]] = []
            while blocks and blocks[0][0].phase == phase and len(parts) < ranks:
                block = list(enumerate(blocks.popleft(), place))
                place += len(block)
                # Nothing is learnt from a probe: whole batches, as a single rank asks them.
                parts += [block] if phase == "probe" else _shares(block, ranks)
            number = len(made) // ranks
            for part in parts + [[]] * (ranks - len(parts)):
                made.append(Step(number, phase, [item for _, item in part], [at for at, _ in part]))
        return made

    def _stops(self, total: int) -> list[int]:
        """After how many edits there are probes."""
        if isinstance(self.interleave, list):
            return [*sorted({n for n in self.interleave if n < total}), total]
        every = self.interleave or total
        return [min(n, total) for n in range(every, total + every, every)]


def _shares(block: Sequence[tuple[int, StreamItem]], ranks: int) -> list[list[tuple[int, StreamItem]]]:
    """A batch of edits shared out so that each rank has about as many sentences to find evidence for."""
    shares: list[list[tuple[int, StreamItem]]] = [[] for _ in range(ranks)]
    loads = [0] * ranks
    costs = [1 + sum(not given for given in item.edit.evidence) if item.edit else 1 for _, item in block]
    for i in sorted(range(len(block)), key=lambda i: -costs[i]):
        rank = loads.index(min(loads))
        shares[rank].append(block[i])
        loads[rank] += costs[i]
    return [sorted(share, key=lambda one: one[0]) for share in shares]


def _spread(edits: list[Edit], count: int | None) -> list[Edit]:
    """So many of the edits, evenly over all."""
    if count is None or len(edits) <= count:
        return edits
    return [edits[i * len(edits) // count] for i in range(count)]


def _bar(show: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), disable=not show)


class _Asked:
    """What the unedited model answers, asked by all ranks together.

    Args:
        answers: Asks it.
        trainer: The trainer whose ranks share the work, where there are several.
    """

    def __init__(self, answers: Answers, trainer: L.Trainer | None = None) -> None:
        self.answers, self.trainer = answers, trainer
        self.ranks = trainer.world_size if trainer is not None else 1
        self.rank = trainer.global_rank if trainer is not None else 0
        self.close = answers.close

    def agree(self, names: Sequence[str]) -> None:
        """Make sure that the source gave every rank the same edits.

        Raises:
            ReasonEditError: It did not.
        """
        if self.trainer is not None and len(set(exchange(self.trainer, json.dumps(names).encode()))) > 1:
            raise ReasonEditError(
                "The data source gives every rank edits of other names: name them by what they are (Edit(id=…)), so "
                "that all ranks speak of the same ones."
            )

    def ask(self, batches: Sequence[Sequence[Query]]) -> list[tuple[list[Reply], list[float]]]:
        """The answers to each of as many batches as there are ranks, or fewer, with their times."""
        replies, ms = self.answers.replies(batches[self.rank]) if self.rank < len(batches) else ([], [])
        if self.trainer is None or self.ranks == 1:
            return [(replies, ms)]
        mine = json.dumps([[asdict(reply) for reply in replies], ms]).encode()
        said = [json.loads(one) for one in exchange(self.trainer, mine)]
        return [([Reply(**reply) for reply in theirs], taken) for theirs, taken in said[: len(batches)]]


def collate(step: Step) -> dict[str, Any]:
    """A batch as the callbacks read it; see :mod:`reasonedit.callbacks.batch`."""
    items = step.items
    return {
        "images": [i.query.image for i in items],
        "prompts": [i.query.question for i in items],
        "choices": [i.query.choices for i in items],
        "edits": [i.edit for i in items],
        "targets": [i.answers or i.answer for i in items],
        "groups": [i.group for i in items],
        "ids": [i.query.id for i in items],
        "edit_ids": [i.edit_id for i in items],
        "before": [i.before for i in items],
        "phase": step.phase,
        "step": step.number,
        "positions": step.positions,
    }


def _chunks(values: Sequence[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(values), size):
        yield list(values[start : start + size])
