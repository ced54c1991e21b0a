"""GRACE: a codebook of deferral radii around the activations of one layer (Hartvigsen et al., arXiv 2211.11031)."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from reasonedit.errors import InputError, UnavailableError
from reasonedit.types import Edit

from ..metrics import EditingMetrics
from ..writer import PredictionWriter
from .layer import LayerEditor
from .training_example import TrainingExample, enable_gradients

_TENSORS, _CONTENT = "grace.safetensors", "grace.json"
SPLIT_SHARE = 1 - 1e-3
"""A split leaves the older key this share of half the distance, so that the two radii never meet."""


class DeferralRadii:
    """The keys of GRACE with their radii, labels and values.

    Args:
        epsilon: The radius that a new key begins with.
    """

    def __init__(self, epsilon: float = 1.0) -> None:
        self.epsilon = epsilon
        self.keys = torch.empty(0, 0)
        self.radii = torch.empty(0)
        self.values = torch.empty(0, 0)
        self.labels: list[str] = []

    def __len__(self) -> int:
        return len(self.labels)

    def nearest(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Distance of the nearest key and its row, for each query (B, D): (B,) and (B,)."""
        keys = self.keys.to(queries.device)
        return torch.cdist(queries.float(), keys, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1)

    def place(self, key: Tensor, label: str) -> str:
        """Add, split or expand for an edit, by the rules of algorithm 1.

        Args:
            key: The layer's input at the query token (D,).
            label: The right answer; labels are compared exactly.

        Returns:
            What was done: ``"add"``, ``"split"`` (after both of which a value is to be learnt) or ``"expand"``.
        """
        if not len(self):
            return self._add(key, label, self.epsilon, "add")
        distances, rows = self.nearest(key[None])
        distance, row = float(distances[0]), int(rows[0])
        radius = float(self.radii[row])
        if distance > self.epsilon + radius:
            return self._add(key, label, self.epsilon, "add")
        if label != self.labels[row]:
            self.radii[row] = distance / 2 * SPLIT_SHARE
            return self._add(key, label, distance / 2, "split")
        self.radii[row] = max(radius, distance)
        return "expand"

    def _add(self, key: Tensor, label: str, radius: float, action: str) -> str:
        key = key.detach().float().cpu()[None]
        self.keys = torch.cat([self.keys, key]) if len(self) else key
        self.radii = torch.cat([self.radii, torch.tensor([radius])])
        self.labels.append(label)
        return action


class GRACE(LayerEditor):
    """Puts a learnt vector in place of what leaves one layer at the query token, near the edits' own activations.

    The key is the layer's input at the question's last token, the value a vector that is learnt by Adam on the model's
    own loss for the right answer, everything else frozen. At inference the nearest key within its radius answers;
    without one the model is untouched. An edit at a key that is there already splits its radius where the answer
    differs, and widens it where the answer is the same.

    Args:
        layer: A linear layer of the language model, or the number of a block, whose last linear layer is meant.
        epsilon: The radius that a new key begins with.
        steps: Steps of Adam for one value.
        lr: Its learning rate.
        reasoning: Whether the value is learnt on the answer and then the reasoning (GRACE-CoT). The answer then ends at
            the first line break.
    """

    def __init__(
        self,
        layer: str | int = -6,
        epsilon: float = 1.0,
        steps: int = 100,
        lr: float = 1.0,
        reasoning: bool = False,
    ) -> None:
        super().__init__(layer)
        self.epsilon = epsilon
        self.book = DeferralRadii(epsilon)
        self.steps, self.lr, self.reasoning = steps, lr, reasoning
        self.title = "GRACE-CoT" if reasoning else "GRACE"  # type: ignore[misc]
        self._learnt: Tensor | None = None  # while it is learnt

    @property
    def keys(self) -> int:
        """Number of keys: edits that widened a radius have none of their own."""
        return len(self.book)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse a place of GRACE-CoT behind what reads answers; see :meth:`LayerEditor.setup`."""
        super().setup(trainer, pl_module, stage)
        if self.reasoning:
            self.must_precede(trainer, EditingMetrics, PredictionWriter)

    def write(self, edit: Edit, row: int, batch: dict[str, Any], pl_module: L.LightningModule) -> None:
        """Place the edit, and learn a value where it got a key; see :meth:`Editor.write`."""
        assert self.vlm is not None  # set-up ran
        (layer,) = self.layers
        target = "\n".join([edit.answer, " ".join(edit.reasoning)]) if self.reasoning else edit.answer
        with enable_gradients():
            vision = self.vlm.see([edit.image])
            prompt = self.vlm.prompt(edit.question, edit.choices)
            example = TrainingExample(self.vlm, vision, [prompt], [target], self.layers, ends=not edit.choices)
            at = (0, example.last_prompt_column)
            book = copy.deepcopy(self.book)  # it counts once the edit is learnt: a run may be cut short meanwhile
            if book.place(example.layer_inputs[layer][at], edit.answer) == "expand":
                self.book = book
                return
            value = nn.Parameter(example.layer_outputs[layer][at].detach().float().clone())
            adam = torch.optim.Adam([value], lr=self.lr)
            self._learnt = value
            try:
                for _ in range(self.steps):
                    adam.zero_grad()
                    example.losses().mean().backward()  # type: ignore[no-untyped-call]
                    adam.step()
            finally:
                self._learnt = None
            learnt = value.detach().cpu()[None]
            book.values = torch.cat([book.values, learnt]) if book.values.numel() else learnt
            self.book = book

    def replace_output(self, name: str, inputs: Tensor, output: Tensor) -> Tensor | None:
        """The nearest key's value, where the query token is within its radius; see the base class."""
        mask = self.prompt_mask(inputs)
        if mask is None:
            return None
        last = mask.shape[1] - 1  # prompts are padded on the left
        if self._learnt is not None:
            values, rows = self._learnt[None], torch.ones(1, dtype=torch.bool, device=output.device)
        elif len(self.book.values):
            distances, nearest = self.book.nearest(inputs[:, last])
            rows = distances <= self.book.radii.to(distances.device)[nearest]
            values = self.book.values.to(output.device)[nearest[rows]]
        else:
            return None
        if not bool(rows.any()):
            return None
        replaced = output.clone()
        replaced[rows, last] = values.to(output.dtype)
        return replaced

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep of each output its answer, in place, and write the edits."""
        said = outputs.get("answers") if isinstance(outputs, dict) else outputs
        if self.reasoning and isinstance(said, list):
            said[:] = [str(output).split("\n", 1)[0].strip() for output in said]
        super().on_predict_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the codebook (safetensors and JSON).

        Raises:
            UnavailableError: The folder cannot be written.
        """
        from safetensors.torch import save_file

        path, book = Path(folder), self.book
        content: dict[str, Any] = {
            "steps": self.steps,
            "lr": self.lr,
            "reasoning": self.reasoning,
            "epsilon": book.epsilon,
            "layer": self.layers[0] if self.layers else self.given_layers[0],
            "labels": book.labels,
            "seconds": self.seconds,
        }
        try:
            path.mkdir(parents=True, exist_ok=True)
            save_file({"keys": book.keys, "radii": book.radii, "values": book.values}, path / _TENSORS)
            (path / _CONTENT).write_text(json.dumps(content, indent=2), encoding="utf-8")
        except OSError as error:
            raise UnavailableError(
                f"The codebook of GRACE cannot be written to '{path}' ({error.strerror})."
            ) from error

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> GRACE:
        """Go on with a saved codebook.

        Raises:
            InputError: There is none, or it is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = Path(folder)
        try:
            content = json.loads((path / _CONTENT).read_text(encoding="utf-8"))
            tensors = load_file(path / _TENSORS)
            editor = cls(content["layer"], content["epsilon"], content["steps"], content["lr"], content["reasoning"])
            editor.seconds, book = dict(content["seconds"]), editor.book
            book.labels, book.keys = list(content["labels"]), tensors["keys"]
            book.radii, book.values = tensors["radii"], tensors["values"]
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise InputError(f"There is no codebook of GRACE in '{path}' that can be read: {error}") from error
        if not len(book.labels) == len(book.keys) == len(book.radii) == len(book.values):
            raise InputError(f"The codebook of GRACE in '{path}' is damaged: its parts differ in length.")
        return editor
