"""LoRA: a low-rank adapter beside the language model's layers, trained on the edits (Hu et al., arXiv 2106.09685)."""

from __future__ import annotations

import copy
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from reasonedit.errors import InputError, NotFoundError
from reasonedit.types import Edit
from reasonedit.vlm import LocalVLM

from ..model import vlm_for, with_weights
from .finetune import LEARNT
from .layer import LayerEditor, linear_layers
from .training_example import TrainingExample, enable_gradients

ATTENTION = ("q_proj", "v_proj")
"""The projections that the paper adapts: those of queries and values."""


def layers_called(vlm: LocalVLM, names: tuple[str, ...]) -> list[str]:
    """The linear layers of all language blocks whose own names are among some.

    Args:
        vlm: The VLM.
        names: Last parts of names: ``"q_proj"``.

    Raises:
        NotFoundError: There is none.
    """
    found = [
        layer
        for block in vlm.language_layers
        for layer in linear_layers(vlm, block)
        if layer.removesuffix(".base_layer").rpartition(".")[2] in names  # the layer below an adapter
    ]
    if not found:
        raise NotFoundError(
            f"No language block of the model '{vlm.name}' has a linear layer called {' or '.join(names)}: name others."
        )
    return found


class Adapter(nn.Module):
    """For each layer two factors A and B: ``scale * B A x`` is added to what leaves it; B begins as zero.

    Args:
        shapes: For each layer by its name how many numbers enter and leave it.
        rank: Numbers between the factors.
        scale: As above.
        seed: Seed of A.
    """

    def __init__(self, shapes: dict[str, tuple[int, int]], rank: int, scale: float, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)  # on the CPU: the same whatever the device
        self.scale = scale
        self._numbers = {name: i for i, name in enumerate(shapes)}
        sizes = list(shapes.values())
        self.down = nn.ParameterList([torch.randn(rank, w, generator=generator) / w**0.5 for w, _ in sizes])
        self.up = nn.ParameterList([torch.zeros(w, rank) for _, w in sizes])

    def forward(self, name: str, inputs: Tensor) -> Tensor:
        """What is added to what leaves a layer: float32 (..., width_out), of what enters it (..., width_in)."""
        i = self._numbers[name]
        down, up = (factor[i].to(inputs.device) for factor in (self.down, self.up))
        return torch.as_tensor(self.scale * (inputs.float() @ down.T @ up.T))


class LoRA(LayerEditor):
    """Trains one low-rank adapter on each edit in turn, until it is learnt or a cap is reached.

    The adapter works from hooks, in float32, so that the modules and weights of the model are its own all the time: the
    adapter's layers of peft would take the places of the model's own, whose names the editors here go by.

    Args:
        rank: Rank of the adapter.
        alpha: Its outputs are multiplied by alpha / rank.
        steps: The most steps of Adam for one edit.
        lr: Its learning rate.
        modules: The layers, by the last parts of their names.
        seed: Seed of what the adapter begins with.

    Raises:
        InputError: The rank is not positive.
    """

    title = "LoRA"

    def __init__(
        self,
        rank: int = 8,
        alpha: float = 16.0,
        steps: int = 50,
        lr: float = 1e-3,
        modules: tuple[str, ...] = ATTENTION,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if rank < 1:
            raise InputError(f"rank must be 1 or more, not {rank}.")
        self.rank, self.alpha, self.steps, self.lr, self.modules, self.seed = rank, alpha, steps, lr, modules, seed
        self._adapter: Adapter | None = None  # of the edits so far

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Find the layers; errors as for :meth:`LayerEditor.setup`."""
        vlm = with_weights(vlm_for(pl_module, None), type(self).__name__)
        self.given_layers = tuple(layers_called(vlm, self.modules))
        super().setup(trainer, pl_module, stage)

    def forget(self) -> None:
        """Begin again without an adapter; see :meth:`Editor.forget`."""
        self._adapter = None

    def write(self, edit: Edit, row: int, batch: dict[str, Any], pl_module: L.LightningModule) -> None:
        """Train the adapter; see :meth:`Editor.write`."""
        assert self.vlm is not None  # set-up ran
        with enable_gradients():
            prompt = self.vlm.prompt(edit.question, edit.choices)
            vision, ends = self.vlm.see([edit.image]), not edit.choices
            example = TrainingExample(self.vlm, vision, [prompt], [edit.answer], self.layers, ends=ends)
            before, adapter = self._adapter, copy.deepcopy(self._adapter) or self._new_adapter()
            adam = torch.optim.Adam(adapter.parameters(), lr=self.lr)
            self._adapter = adapter
            try:
                for _ in range(self.steps):
                    loss = example.losses().mean()
                    if float(loss.detach()) < LEARNT:
                        break
                    adam.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    adam.step()
            except BaseException:  # a run may be cut short, and its callback be used again
                self._adapter = before
                raise
            adam.zero_grad()

    def _new_adapter(self) -> Adapter:
        assert self.vlm is not None
        shapes = {n: (self.linear(n).in_features, self.linear(n).out_features) for n in self.layers}
        return Adapter(shapes, self.rank, self.alpha / self.rank, self.seed).to(self.vlm.device)

    def replace_output(self, name: str, inputs: Tensor, output: Tensor) -> Tensor | None:
        """With what the adapter adds, once there is an edit; see :meth:`LayerEditor.replace_output`."""
        if self._adapter is None:
            return None
        added: Tensor = self._adapter(name, inputs)
        return (output.float() + added).to(output.dtype)
