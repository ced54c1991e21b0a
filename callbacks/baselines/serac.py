"""SERAC: a memory of edits, a scope classifier and a counterfactual model (Mitchell et al., arXiv 2206.06520)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from reasonedit.errors import InputError
from reasonedit.retrieval import Retrieval
from reasonedit.vlm import VLM
from reasonedit.vlm.reply import close_thought

from ..batch import texts_alone
from ..model import vlm_for, with_weights
from .joint_embedding import JointEmbedder
from .layer import LayerEditor
from .lora import ATTENTION, layers_called
from .serac_network import SeracNetwork
from .told_edits import TellsEdits


class SERAC(TellsEdits, LayerEditor):
    """Answers questions in the scope of a stored edit by a counterfactual model, which is told the edit.

    The scope classifier gives each stored edit the chance that a question about an image is in its scope. Where the
    highest is above the threshold, that edit is put before the question, and the counterfactual model answers; else the
    model does, as if nothing had been edited.

    In the paper the classifier reads both texts, and the counterfactual model is a small one of the same kind. Here the
    classifier goes by the embeddings of image and question (:class:`JointEmbedder`), and the counterfactual model is
    the VLM itself with a low-rank adapter, which works in the rows of such questions alone. Both are trained as in the
    paper, each by itself: see :mod:`.serac_training`.

    Args:
        network: File that ``reasonedit train-serac`` wrote.
        threshold: As above; the paper's is a half.
        wording: How an edit is worded, see :data:`.ike.WORDINGS`: as it was in training.
        encoder: The sentence encoder, as in :class:`~reasonedit.embedding.EmbeddingConfig`.
        prompt_key: Key of the questions in a batch.

    Raises:
        InputError: The threshold is no chance.
    """

    title = "SERAC"

    def __init__(
        self,
        network: str | os.PathLike[str],
        threshold: float = 0.5,
        wording: str = "new fact",
        encoder: str = "embedded",
        prompt_key: str = "prompts",
    ) -> None:
        super().__init__(wording=wording, encoder=encoder, prompt_key=prompt_key)
        if not 0 <= threshold < 1:
            raise InputError(f"threshold must be at least 0 and below 1, not {threshold}.")
        self.threshold = threshold
        self._path = Path(network)
        self.network: SeracNetwork | None = None
        self._told: set[str] = set()  # the prompts of a batch that the counterfactual model answers
        self._rows: list[bool] = []  # of the pass that runs, those with such a prompt
        self.trains = False  # then each row is one of its own

    @classmethod
    def with_new_network(cls, vlm: VLM, encoder: str = "embedded", seed: int = 0) -> SERAC:
        """With networks that are to be trained; in this state no question is told from another."""
        serac = cls("", encoder=encoder)
        serac.vlm = with_weights(vlm, cls.__name__)
        serac._embedder = JointEmbedder(vlm, encoder)
        serac.layers = layers_called(serac.vlm, ATTENTION)
        shapes = {n: (serac.linear(n).in_features, serac.linear(n).out_features) for n in serac.layers}
        serac.network = SeracNetwork(serac._embedder.width, shapes, seed).to(vlm.device)
        return serac

    def fingerprint(self) -> dict[str, str]:
        """What must agree for a network to fit: the VLM, what embeds, and the wording."""
        assert self.vlm is not None  # set-up ran
        return {**self.vlm.fingerprint, **self.embedder.fingerprint, "wording": self.wording}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Read the networks.

        Raises:
            ReasonEditError: There are none, or they were trained for another VLM; or as for the base classes.
        """
        vlm = with_weights(vlm_for(pl_module, None), type(self).__name__)
        if self.vlm is not vlm:
            self.network = None  # it is read again, and refused where it is for another
        self.vlm = vlm
        self.given_layers = tuple(layers_called(vlm, ATTENTION))
        super().setup(trainer, pl_module, stage)
        if self.network is None:
            self.network = SeracNetwork.load(self._path, self.fingerprint()).requires_grad_(False)
        self.network.to(vlm.device)

    # ---- which questions are in scope

    def choose(self, queries: Tensor) -> list[Retrieval]:
        """For each question the edit in whose scope it is, at a distance of 1 - chance; see the base class."""
        assert self.network is not None
        with torch.no_grad():
            chances = self.network.chances(queries, self._keys)
        best = chances.max(dim=1)
        return [
            Retrieval([self.hit(row, 1 - chance)] if chance > self.threshold else [], 1 - chance, 1 - self.threshold)
            for chance, row in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    def on_predict_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Put edits before the questions in their scope, which the counterfactual model answers."""
        super().on_predict_batch_start(trainer, pl_module, batch, batch_idx, dataloader_idx)
        self._told = set()
        if not isinstance(batch, dict) or not isinstance(batch.get("retrieved"), list) or self.vlm is None:
            return
        asked = batch[self.prompt_key]
        choices, texts = batch.get("choices") or [None] * len(asked), texts_alone(batch, self, len(asked))
        for retrieval, question, options, alone in zip(batch["retrieved"], asked, choices, texts, strict=True):
            if retrieval.hits:  # none where the edit found no room in the prompt
                clean = self.vlm.clean(question)
                prompt = self.vlm.format_text(clean) if alone else self.vlm.prompt(question, options)
                self._told |= {prompt, close_thought(prompt)}

    # ---- the counterfactual model

    def install(self) -> None:
        """Hook the layers, and learn which prompts run; see :meth:`LayerEditor.install`."""
        super().install()
        assert self.vlm is not None  # set-up ran
        vlm: Any = self.vlm
        inputs, text_inputs = vlm.inputs, vlm.text_inputs

        def note_and_make_inputs(vision: Any, prompts: Any) -> Any:
            self._rows = [self.trains or prompt in self._told for prompt in prompts]
            return inputs(vision, prompts)

        def note_and_make_text_inputs(prompt: str, *rest: Any) -> Any:
            self._rows = [prompt in self._told]
            return text_inputs(prompt, *rest)

        vlm.inputs, vlm.text_inputs = note_and_make_inputs, note_and_make_text_inputs

    def remove(self) -> None:
        """Take all of that away; see :meth:`LayerEditor.remove`."""
        super().remove()
        self._told, self._rows = set(), []
        if self.vlm is not None:
            for name in ("inputs", "text_inputs"):
                self.vlm.__dict__.pop(name, None)

    def replace_output(self, name: str, inputs: Tensor, output: Tensor) -> Tensor | None:
        """With what the adapter adds, in the rows of the counterfactual model; see the base class."""
        if not any(self._rows) or self.network is None:
            return None
        added: Tensor = self.network.counterfactual(name, inputs)
        copies = inputs.shape[0] // len(self._rows)  # of each row, where several answers are sought at once
        rows = torch.tensor(self._rows, device=output.device).repeat_interleave(copies)
        return torch.where(rows[:, None, None], (output.float() + added).to(output.dtype), output)
