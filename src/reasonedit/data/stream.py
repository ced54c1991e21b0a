"""Edit streams for ``trainer.predict``."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, NoReturn

import lightning as L
from lightning.pytorch.plugins.precision import MixedPrecision
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from reasonedit.calibration.gathered import GatheredPictures
from reasonedit.errors import InputError
from reasonedit.ranks import spawning_error
from reasonedit.types import Edit
from reasonedit.vlm import VLM, Generation, generation_of

from .answers import Answers
from .base_pass import BasePass, ask_unedited, find_wrong, gather_candidates
from .layout import Step, StreamItem, lay_out, share_out
from .named import open_source
from .probe_counts import describe_counts
from .shared_answers import SharedAnswers
from .source import EditSource

_log = logging.getLogger(__name__)


class _Steps(Dataset[Step]):
    def __init__(self, steps: list[Step]) -> None:
        self.steps = steps

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> Step:
        return self.steps[index]


class EditStream(L.LightningDataModule):
    """A stream of edits and probes.

    First the base pass asks the unedited model: the samples that it gets wrong are the edits. Then come the edits in
    order, then the probes; or, with ``interleave``, n edits, the probes of all edits so far, n more edits, and so on.

    On several devices the ranks share each batch of edits, and take turns with the batches of probes. All take the same
    number of steps, with nothing to do in some. So a question sees the edits of all batches before its own, and no
    others, however many ranks there are.

    Args:
        source: A name that a package offers (``"world"``: the embedded world), with its folder where it reads one
            (``"vlkeb:FOLDER"``), or any :class:`~reasonedit.data.source.EditSource`.
        batch_size: Questions per batch; a batch never mixes edits with probes.
        interleave: After how many edits there are probes each time, or a list of such numbers; there are always probes
            after the last edit.
        sample: How many of the edits so far are probed before the end, spread evenly over those of them that are ever
            probed; all when not given.
        probed: How many edits are ever probed, spread evenly over all; all when not given.
        check: Whether edits come one at a time, and each is asked again right after it (phase ``check``, of no group).
        alone: Whether each edit stands alone: its probes follow it at once, and the editor takes it back before the
            next one is asked. So MEND and fine-tuning are published. Goes without ``interleave``.

    Attributes:
        pool: Takes in the pictures of the samples that are asked to find the edits, if a callback wants them.
        base: What the unedited model answered, once it was asked.
        quiet: Whether somebody else says which probes are not asked.

    Raises:
        InputError: An argument is out of range.
        NotFoundError: No package offers a source of this name.
    """

    def __init__(
        self,
        source: EditSource | str = "world",
        batch_size: int = 8,
        interleave: int | list[int] | None = None,
        sample: int | None = None,
        probed: int | None = None,
        check: bool = False,
        alone: bool = False,
    ) -> None:
        super().__init__()
        if isinstance(source, str):
            source = open_source(source)
        stops = interleave if isinstance(interleave, list) else [interleave]
        for name, values in (
            ("batch_size", [batch_size]),
            ("interleave", stops),
            ("sample", [sample]),
            ("probed", [probed]),
        ):
            for value in values:
                if value is not None and value < 1:
                    raise InputError(f"{name} must be 1 or more, not {value}.")
        if alone and interleave is not None:
            raise InputError("With alone the probes follow each edit: leave interleave out.")
        self.source: EditSource = source
        if source.edits < 1:  # a data set reads its rows for this, before any model is loaded
            raise InputError(f"edits must be 1 or more, not {source.edits}.")
        self.batch_size = batch_size
        self.interleave = interleave
        self.sample, self.probed, self.check, self.alone = sample, probed, check, alone
        self.quiet = False
        self.base: BasePass | None = None
        self.pool: GatheredPictures | None = None
        self._asked: object = None  # which model the base pass asked, and how

    def predict_dataloader(self) -> DataLoader[Step]:
        """Run the base pass, unless it is done, and lay out the stream.

        Raises:
            InputError: There is no trainer, or its module has no VLM that could be asked; or its processes are
                forked or spawned, or its precision is mixed.
        """
        if self.trainer is None:
            raise InputError("EditStream makes its loader inside a trainer: hand it over as a datamodule.")
        launch_error = spawning_error(self.trainer)
        if launch_error is not None:
            raise launch_error
        if isinstance(self.trainer.precision_plugin, MixedPrecision):
            raise InputError(
                f"precision='{self.trainer.precision}' rounds what is answered in the run and not what the unedited "
                "model is asked before it, so that answers change without an edit: leave it out, and name the type of "
                "the VLM (VLMModule(dtype=…))."
            )
        module = self.trainer.lightning_module
        vlm = getattr(module, "vlm", None)
        if not isinstance(vlm, VLM):
            raise InputError("EditStream needs a module whose attribute 'vlm' is a reasonedit VLM.")
        show = self.trainer.progress_bar_callback is not None and self.trainer.is_global_zero
        ranks = self.trainer.world_size
        self.base_pass(vlm, generation_of(module), progress=show, trainer=self.trainer)
        steps = _Steps(self.steps(ranks))
        # Of every ``ranks`` steps in a row each rank has one: what this sampler deals out.
        turns: DistributedSampler[Step] | None = None
        if ranks > 1:
            turns = DistributedSampler(steps, ranks, self.trainer.global_rank, shuffle=False)
        # A step is a whole batch, so that the order and the borders between phases are the stream's own.
        return DataLoader(steps, batch_size=None, sampler=turns, collate_fn=partial(collate, alone=self.alone))

    def train_dataloader(self) -> NoReturn:
        """Refuse to train: a stream runs in ``trainer.predict``.

        Raises:
            InputError: Always.
        """
        raise InputError(
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
        """Ask the unedited model, once; its answers are cached, see :class:`~reasonedit.data.answers.Answers`.

        Args:
            vlm: The model.
            generation: How it answers.
            progress: Whether to show a bar.
            trainer: The trainer whose ranks share the work, where there are several.

        Raises:
            InputError: The model gets nothing wrong.
        """
        generation = generation or Generation()
        asked_of = (vlm.identity, generation)
        if self.base is None or self._asked != asked_of:
            answers = SharedAnswers(Answers(vlm, generation), trainer)
            self.base = ask_unedited(
                self.source, answers, self.batch_size, probed=self.probed, progress=progress, pool=self.pool
            )
            answers.close()
            self._asked = asked_of
            if not self.quiet and answers.rank == 0:
                for sentence in describe_counts([self.base.counts]):
                    _log.warning("%s", sentence)
        elif self.pool is not None and not len(self.pool):
            answers = SharedAnswers(Answers(vlm, generation), trainer)
            gather_candidates(self.source, answers, self.batch_size, self.base.candidates, self.pool)
            answers.close()
        return self.base

    def find_edits(self, vlm: VLM, generation: Generation | None = None, *, progress: bool = False) -> list[Edit]:
        """The samples that the unedited model gets wrong; no probe is asked. Arguments as in :meth:`base_pass`.

        Raises:
            InputError: The model gets nothing wrong.
        """
        answers = SharedAnswers(Answers(vlm, generation or Generation()))
        edits = find_wrong(self.source, answers, self.batch_size, progress=progress)
        answers.close()
        return edits

    def layout(self) -> list[list[StreamItem]]:
        """The batches of the stream, in order.

        Raises:
            InputError: The base pass has not run.
        """
        if self.base is None:
            raise InputError("The base pass has not run: call base_pass(vlm) first.")
        edits = self.base.edits
        return lay_out(
            edits,
            list(zip(self.base.probes, self.base.answers, strict=True)),
            stops=self._stops(len(edits)),
            batch_size=self.batch_size,
            sample=self.sample,
            check=self.check,
            alone=self.alone,
        )

    def steps(self, ranks: int = 1) -> list[Step]:
        """The steps of all ranks, as :func:`~reasonedit.data.layout.share_out` orders them.

        Raises:
            InputError: The base pass has not run.
        """
        return share_out(self.layout(), ranks)

    def _stops(self, total: int) -> list[int]:
        """After how many edits there are probes."""
        if self.alone:
            return list(range(1, total + 1))
        if isinstance(self.interleave, list):
            return [*sorted({n for n in self.interleave if n < total}), total]
        every = self.interleave or total
        return [min(n, total) for n in range(every, total + every, every)]


def collate(step: Step, *, alone: bool = False) -> dict[str, Any]:
    """A batch as the callbacks read it; see :mod:`reasonedit.callbacks.batch`."""
    items = step.items
    alone_texts = [i.query.text_only for i in items]
    return ({"text_only": alone_texts} if any(alone_texts) else {}) | {
        "images": [i.query.image for i in items],
        "prompts": [i.query.question for i in items],
        "bare_prompts": [i.query.question for i in items],
        "choices": [i.query.choices for i in items],
        "edits": [i.edit for i in items],
        "targets": [i.answers or i.answer for i in items],
        "groups": [i.group for i in items],
        "ids": [i.query.id for i in items],
        "edit_ids": [i.edit_id for i in items],
        "before": [i.before for i in items],
        "phase": step.phase,
        "round": step.round,
        "step": step.number,
        "positions": step.positions,
        "alone": alone,
    }
