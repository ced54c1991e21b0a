"""The LightningModule around a frozen VLM."""

from __future__ import annotations

from typing import Any, SupportsIndex

import lightning as L

from reasonedit.batches import answered_already, choices_of, pictures, questions
from reasonedit.errors import ReasonEditError
from reasonedit.ranks import refuse_parts, refuse_spawning
from reasonedit.vlm import VLM, Vision, load_vlm


class VLMModule(L.LightningModule):
    """Answers questions about images in ``trainer.predict``, ``validate`` and ``test``; nothing of the VLM is trained.

    A batch is a dict with ``images`` (see :mod:`reasonedit.callbacks.batch`), ``prompts`` (questions, to which a
    callback may have added facts), and optionally ``choices`` (a list or ``None`` per question) and ``vision`` (the
    images as the VLM's vision part has seen them already). The prediction is the list of answers.

    Args:
        model: A hub id, a folder, ``"embedded"``, or a VLM that is loaded already.
        dtype: ``"auto"`` or the name of a torch type.
        max_new_tokens: Longest open answer, in tokens.
        model_kwargs: Passed on to transformers' ``from_pretrained``, such as ``device_map``.

    Raises:
        ReasonEditError: The model cannot be had, or ``max_new_tokens`` is not positive.
    """

    def __init__(
        self,
        model: str | VLM = "embedded",
        dtype: str = "auto",
        max_new_tokens: int = 16,
        model_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if max_new_tokens < 1:
            raise ReasonEditError(f"max_new_tokens must be 1 or more, not {max_new_tokens}.")
        self.vlm = model if isinstance(model, VLM) else load_vlm(model, dtype=dtype, **(model_kwargs or {}))
        if self.vlm.movable:
            self.model = self.vlm.model  # registered, so that Lightning moves it to the device
        else:
            self.__dict__["model"] = self.vlm.model  # it is where it belongs
        self.max_new_tokens = max_new_tokens

    def setup(self, stage: str) -> None:
        """Refuse to run in several processes what is spread over the devices of one, and in parts what must be whole.

        Raises:
            ReasonEditError: It is one of those.
        """
        if self._trainer is not None:
            refuse_parts(self.trainer, self.vlm.name)
        places = set((getattr(self.vlm.model, "hf_device_map", None) or {}).values())
        if self._trainer is not None and self.trainer.world_size > 1 and not self.vlm.movable and len(places) > 1:
            raise ReasonEditError(
                f"The model '{self.vlm.name}' is spread over {len(places)} devices by device_map, which takes one "
                "process: use devices=1 and num_nodes=1, or leave device_map out, so that each process has the model "
                "on a device of its own."
            )

    def predict_step(self, batch: dict[str, Any], batch_idx: int = 0, dataloader_idx: int = 0) -> list[str]:
        """Answer the batch's questions; an empty batch gives an empty list, and what is ``answers`` already stays.

        Raises:
            ReasonEditError: What the batch holds cannot be used; names the sample.
        """
        known = answered_already(batch)
        if known is not None:
            return known
        asked = questions(batch, "prompts", self)
        choices = choices_of(batch, "choices", self, len(asked))
        if not asked:
            return []
        vision = batch.get("vision")
        if not isinstance(vision, Vision) or len(vision) != len(asked):
            vision = self.vlm.see(pictures(batch, "images", self, len(asked)))
        return self.vlm.answer(vision, asked, choices, self.max_new_tokens)

    def validation_step(self, batch: dict[str, Any], batch_idx: int = 0, dataloader_idx: int = 0) -> Any:
        """As :meth:`predict_step`."""
        return self.predict_step(batch, batch_idx, dataloader_idx)

    def test_step(self, batch: dict[str, Any], batch_idx: int = 0, dataloader_idx: int = 0) -> Any:
        """As :meth:`predict_step`."""
        return self.predict_step(batch, batch_idx, dataloader_idx)

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        """Refuse to be sent to a process that is spawned; be copied as usual."""
        refuse_spawning()
        return super().__reduce_ex__(protocol)
