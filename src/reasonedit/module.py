"""The LightningModule around a frozen VLM."""

from __future__ import annotations

from typing import Any

import lightning as L

from reasonedit.errors import ReasonEditError
from reasonedit.vlm import VLM, load_vlm


class VLMModule(L.LightningModule):
    """Answers batches of questions about images in ``trainer.predict``; nothing of the VLM is trained.

    A batch is a dict with ``images`` (PIL), ``prompts`` (questions, to which a callback may have added facts), and
    optionally ``choices`` (a list or ``None`` per question) and ``vision`` (the images as the VLM's vision part has
    seen them already). The prediction is the list of answers.

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
        """Refuse to run in several processes what is spread over the devices of one.

        Raises:
            ReasonEditError: It is.
        """
        places = set((getattr(self.vlm.model, "hf_device_map", None) or {}).values())
        if self._trainer is not None and self.trainer.world_size > 1 and not self.vlm.movable and len(places) > 1:
            raise ReasonEditError(
                f"The model '{self.vlm.name}' is spread over {len(places)} devices by device_map, which takes one "
                "process: use devices=1 and num_nodes=1, or leave device_map out, so that each process has the model "
                "on a device of its own."
            )

    def predict_step(self, batch: dict[str, Any], batch_idx: int = 0, dataloader_idx: int = 0) -> list[str]:
        """Answer the batch's questions; an empty batch gives an empty list, and what is ``answers`` already stays."""
        if "answers" in batch:
            return list(batch["answers"])
        if not batch["prompts"]:
            return []
        vision = batch.get("vision")
        if vision is None:
            vision = self.vlm.see(batch["images"])
        return self.vlm.answer(vision, batch["prompts"], batch.get("choices"), self.max_new_tokens)
