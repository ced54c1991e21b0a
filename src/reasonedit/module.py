"""The LightningModule around a frozen VLM."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, SupportsIndex

import lightning as L
from lightning.pytorch.plugins.precision import Precision

from reasonedit.batches import Choices, answered_already, choices_of, questions, texts_alone, vision_of
from reasonedit.errors import InputError
from reasonedit.ranks import refuse_parts, refuse_spawning
from reasonedit.vlm import VLM, Generation, Reply, load_vlm
from reasonedit.vlm.generation import cut_off_message

if TYPE_CHECKING:
    from typing_extensions import Self

_log = logging.getLogger(__name__)


class VLMModule(L.LightningModule):
    """Answers questions about images in ``trainer.predict``, ``validate`` and ``test``; the VLM stays frozen.

    A batch is a dict with ``images`` (see :mod:`reasonedit.callbacks.batch`), ``prompts`` (questions, before which a
    callback may have put facts), and optionally ``choices`` (a list or ``None`` per question), ``text_only`` (whether
    each is asked without a picture) and ``vision`` (a pass of the vision part that somebody made already). The
    prediction is the list of answers. The module adds ``thoughts`` (what a reasoning VLM wrote before each answer) and
    ``finish_reasons`` to the batch.

    Args:
        model: A hub id, a folder, ``"embedded"``, or a loaded VLM.
        dtype: ``"auto"`` or the name of a torch type.
        max_new_tokens: Longest open answer, in tokens; this and the next two as in
            :class:`~reasonedit.vlm.generation.Generation`.
        choice_rule: How a choice is picked.
        generate_kwargs: Other arguments of transformers' ``generate``.
        model_kwargs: Passed on to transformers' ``from_pretrained``, such as ``device_map``.

    Attributes:
        generation: How answers are made.

    Raises:
        InputError: An argument is out of range.
        ReasonEditError: The model cannot be had.

    Example:
        >>> module = VLMModule("llava-hf/llava-1.5-7b-hf", dtype="bfloat16")  # doctest: +SKIP
        >>> L.Trainer(callbacks=[Retriever("codebook")]).predict(module, loader)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | VLM = "embedded",
        dtype: str = "auto",
        max_new_tokens: int | None = None,
        model_kwargs: dict[str, Any] | None = None,
        choice_rule: str | None = None,
        generate_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        options: Mapping[str, Any] = generate_kwargs or {}
        self.generation = Generation().but(
            max_new_tokens, choice_rule, **options
        )  # refuse them before a model is loaded
        self.vlm = model if isinstance(model, VLM) else load_vlm(model, dtype=dtype, **(model_kwargs or {}))
        if self.vlm.movable:
            self.model = self.vlm.model  # registered, so that Lightning moves it to the device
        else:
            self.__dict__["model"] = self.vlm.model  # device_map has placed it
        self._home = self.vlm.device
        self._is_shared = isinstance(model, VLM)
        self._answered = self._cut_off = 0

    @property
    def max_new_tokens(self) -> int:
        """Longest open answer, in tokens."""
        return self.generation.max_new_tokens

    def setup(self, stage: str) -> None:
        """Refuse strategies that split the model, processes for one on several devices, and another type of weights.

        Raises:
            InputError: It is one of those.
        """
        if self._trainer is not None:
            refuse_parts(self.trainer, self.vlm.name)
        if self._trainer is not None and self._is_shared and self.vlm.movable:
            self._refuse_conversion()
        places = set((getattr(self.vlm.model, "hf_device_map", None) or {}).values())
        if self._trainer is not None and self.trainer.world_size > 1 and not self.vlm.movable and len(places) > 1:
            raise InputError(
                f"The model '{self.vlm.name}' is spread over {len(places)} devices by device_map, which takes one "
                "process: use devices=1 and num_nodes=1, or leave device_map out, so that each process has the model "
                "on a device of its own."
            )

    def _refuse_conversion(self) -> None:
        """Refuse a precision for which Lightning changes the weights themselves: they stay so when the run is over."""
        if type(self.trainer.precision_plugin).convert_module is not Precision.convert_module:
            raise InputError(
                f"precision='{self.trainer.precision}' would change the weights of the VLM '{self.vlm.name}', for "
                "whoever else uses it, for good: leave it out, and load the VLM in that type (load_vlm(…, dtype=…))."
            )

    def predict_step(self, batch: dict[str, Any], batch_idx: int = 0, dataloader_idx: int = 0) -> list[str]:
        """Answer the batch's questions; give a resumed run's logged answers again. An empty batch has no answers.

        Raises:
            InputError: A column of the batch cannot be used; the message names the sample.
        """
        logged = answered_already(batch)
        if logged is not None:
            return logged
        asked = questions(batch, "prompts", self)
        choices = choices_of(batch, "choices", self, len(asked))
        if not asked:
            return []
        replies = self.reply(batch, asked, choices or [None] * len(asked))
        batch["thoughts"] = [reply.thought for reply in replies]
        batch["finish_reasons"] = [reply.finish_reason for reply in replies]
        self._answered += len(replies)
        self._cut_off += batch["finish_reasons"].count("length")
        return [reply.text for reply in replies]

    def reply(self, batch: dict[str, Any], asked: list[str], choices: Choices) -> list[Reply]:
        """The replies to a batch; questions without a picture are answered apart.

        Args:
            batch: The batch, with its pictures.
            asked: Its questions, after their facts, if any.
            choices: The choices of each, or ``None``.

        Raises:
            InputError: A question without a picture has choices.
        """
        texts = [row for row, alone in enumerate(texts_alone(batch, self, len(asked))) if alone]
        shown = [row for row in range(len(asked)) if row not in set(texts)]
        given_choices = next((row for row in texts if choices[row]), None)
        if given_choices is not None:
            raise InputError(
                f"The question '{asked[given_choices]}' has choices and no picture: leave its choices out."
            )
        told = self.vlm.reply_to_texts([asked[row] for row in texts], self.generation) if texts else []
        replies = dict(zip(texts, told, strict=True))
        if shown:
            vision = vision_of(batch, self.vlm, self, len(asked))
            vision = vision.select(shown) if texts else vision
            rows = [asked[row] for row in shown], [choices[row] for row in shown]
            replies |= zip(shown, self.vlm.reply(vision, *rows, self.generation), strict=True)
        return [replies[row] for row in range(len(asked))]

    def on_predict_start(self) -> None:
        """Count from zero."""
        self._answered = self._cut_off = 0

    def on_predict_end(self) -> None:
        """Say how many answers were cut off."""
        if self._cut_off:
            _log.warning("%s", cut_off_message(self._cut_off, self._answered, self.generation))

    on_validation_start = on_test_start = on_predict_start
    on_validation_end = on_test_end = on_predict_end

    def validation_step(self, batch: dict[str, Any], batch_idx: int = 0, dataloader_idx: int = 0) -> Any:
        """As :meth:`predict_step`."""
        return self.predict_step(batch, batch_idx, dataloader_idx)

    def test_step(self, batch: dict[str, Any], batch_idx: int = 0, dataloader_idx: int = 0) -> Any:
        """As :meth:`predict_step`."""
        return self.predict_step(batch, batch_idx, dataloader_idx)

    def cpu(self) -> Self:
        """Lightning calls this when a run ends: the VLM goes back to where it was, as others may be using it."""
        running = self._trainer is not None and self._trainer.state.stage is not None
        return self.to(self._home) if running else super().cpu()

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        """Refuse to be pickled for a spawned process; be copied as usual."""
        refuse_spawning()
        return super().__reduce_ex__(protocol)
