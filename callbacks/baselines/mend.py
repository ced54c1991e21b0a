"""MEND: a network that turns the gradient of an edit into a better one (Mitchell et al., arXiv 2110.11309)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from reasonedit.errors import ReasonEditError
from reasonedit.types import Edit
from reasonedit.vlm import VLM, Vision

from ..model import vlm_for
from .layer import LayerEditor, Weights, last_linear
from .lesson import Lesson, learning

BLOCKS = (-3, -2, -1)
"""The paper edits the MLPs of the last three blocks."""


class GradientNetwork(nn.Module):
    """What a layer's gradient is made into: the two factors of its rank-one parts, transformed together.

    A token's part of the gradient is ``delta u^T``: u is what entered the layer, delta the gradient of what left it.
    Both are brought to unit variance, go through two residual steps of low rank that start as the identity, and make
    the new gradient; all layers share the network, each with scales and offsets of its own (section 3.2 of the paper).

    Args:
        layers: Names of the layers, all of one shape.
        width_in: Numbers that enter each.
        width_out: Numbers that leave it.
        rank: Rank of the steps.
    """

    def __init__(self, layers: list[str], width_in: int, width_out: int, rank: int = 128) -> None:
        super().__init__()
        width = width_in + width_out
        self.layers, self.widths, self.rank = layers, (width_in, width_out), rank
        self.down = nn.ParameterList([torch.randn(rank, width) / width**0.5 for _ in range(2)])
        self.up = nn.ParameterList([torch.zeros(width, rank) for _ in range(2)])
        self.scale = nn.Parameter(torch.ones(len(layers), 2, width))
        self.offset = nn.Parameter(torch.zeros(len(layers), 2, width))
        self.rate = nn.Parameter(torch.full((len(layers),), -2.0))  # log10 of each layer's learning rate
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(len(layers), width))
        self.register_buffer("deviation", torch.ones(len(layers), width))

    def forward(self, layer: int, entering: Tensor, gradient: Tensor) -> Tensor:
        """The change of a layer's weight.

        Args:
            layer: Number of the layer.
            entering: u of each token (T, width_in).
            gradient: delta of each token (T, width_out).

        Returns:
            What is added to the weight, (width_out, width_in).
        """
        whole = torch.cat([entering, gradient], dim=1).float()
        there = gradient.float().abs().sum(1, keepdim=True) > 0  # tokens that the answer does not hang on
        x = (whole - self.mean[layer]) / self.deviation[layer]
        for i in range(2):
            inner = torch.relu(x @ self.down[i].T) if i == 0 else x @ self.down[i].T
            x = x + self.scale[layer, i] * (inner @ self.up[i].T) + self.offset[layer, i]
        u, delta = (x * there).split(self.widths, dim=1)  # type: ignore[no-untyped-call]
        return torch.as_tensor(-(10 ** self.rate[layer]) * delta.T @ u / there.sum().clamp(min=1))

    def save(self, path: str | os.PathLike[str], fingerprint: dict[str, str]) -> None:
        """Write the network (safetensors), with the model that it was trained on.

        Raises:
            ReasonEditError: It cannot be written.
        """
        from safetensors.torch import save_file

        about = {"layers": self.layers, "widths": self.widths, "rank": self.rank, "fingerprint": fingerprint}
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            save_file({k: v.contiguous() for k, v in self.state_dict().items()}, path, {"about": json.dumps(about)})
        except OSError as error:
            raise ReasonEditError(f"The network of MEND cannot be written to '{path}' ({error.strerror}).") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str], fingerprint: dict[str, str]) -> GradientNetwork:
        """Read a network.

        Raises:
            ReasonEditError: There is none, it is damaged, or it was trained on another model.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                about = json.loads(file.metadata()["about"])
                made = cls(about["layers"], about["widths"][0], about["widths"][1], about["rank"])
                made.load_state_dict({k: file.get_tensor(k) for k in file.keys()})  # noqa: SIM118 - no mapping
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ReasonEditError(
                f"There is no network of MEND in '{path}' that can be read ({error}): train one by "
                "reasonedit train-mend --out FILE."
            ) from error
        if about["fingerprint"] != fingerprint:
            raise ReasonEditError(
                f"The network of MEND in '{path}' was trained on another model: train one by reasonedit train-mend."
            )
        return made


class MEND(LayerEditor):
    """Changes the last blocks by one transformed gradient step per edit.

    The edits pile up in the weights; when the run ends the model has its own again, bit for bit.

    Args:
        network: File that ``reasonedit train-mend`` wrote.
    """

    title = "MEND"

    def __init__(self, network: str | os.PathLike[str]) -> None:
        super().__init__()
        self._path = Path(network)
        self.weights = Weights(self)
        self.network: GradientNetwork | None = None
        self._probes: dict[str, Tensor] = {}
        self._changes: dict[str, Tensor] = {}

    @classmethod
    def untrained(cls, vlm: VLM, rank: int = 128) -> MEND:
        """With a network that is to be trained: it begins as plain gradient descent."""
        made = cls("")
        layers = [last_linear(vlm, block) for block in BLOCKS]
        made.vlm, made.layers = vlm, layers
        linear = made.linear(layers[0])
        made.network = GradientNetwork(layers, linear.in_features, linear.out_features, rank).to(vlm.device)
        return made

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Read the network; see :meth:`LayerEditor.setup`."""
        vlm = vlm_for(pl_module, None)
        if self.network is None:
            self.network = GradientNetwork.load(self._path, vlm.fingerprint).requires_grad_(False)
        self.network.to(vlm.device)
        self.wanted = tuple(self.network.layers)
        super().setup(trainer, pl_module, stage)

    def install(self) -> None:
        """Hook the layers, and put the edited weights in; see :meth:`LayerEditor.install`."""
        super().install()
        self.weights.install()

    def remove(self) -> None:
        """Give the model its own weights back; see :meth:`LayerEditor.remove`."""
        super().remove()
        self.weights.restore()

    def write(self, edit: Edit, row: int, batch: dict[str, Any], pl_module: L.LightningModule) -> None:
        """Take the step; see :meth:`Editor.write`."""
        assert self.vlm is not None  # set-up ran
        with learning():
            prompt = self.vlm.prompt(edit.question, edit.choices)
            lesson = self.lesson(self.vlm.see([edit.image]), prompt, edit.answer, ending=not edit.choices)
            changes = self.changes(lesson)
            for name, change in changes.items():
                self.weights.change(name, self.weights.now(name) + change)

    def lesson(self, vision: Vision, prompt: str, answer: str, *, ending: bool = False) -> Lesson:
        """A question with its answer, for the edited layers."""
        assert self.vlm is not None
        return Lesson(self.vlm, vision, [prompt], [answer], self.layers, ending=ending)

    def gradients(self, lesson: Lesson) -> dict[str, tuple[Tensor, Tensor]]:
        """For each layer u and delta of each token of a lesson: (T, width_in) and (T, width_out)."""
        self._probes = {n: torch.zeros_like(lesson.leaving[n], requires_grad=True) for n in self.layers}
        try:
            loss = lesson.losses().sum()
            found = torch.autograd.grad(loss, list(self._probes.values()))
        finally:
            self._probes = {}
        return {n: (lesson.entering[n][0], g[0]) for n, g in zip(self.layers, found, strict=True)}

    def changes(self, lesson: Lesson) -> dict[str, Tensor]:
        """What an edit adds to each layer's weight, (width_out, width_in)."""
        assert self.network is not None
        gradients = self.gradients(lesson)
        return {n: self.network(i, *gradients[n]) for i, n in enumerate(self.layers)}

    def passing(self, name: str, entering: Tensor, leaving: Tensor) -> Tensor | None:
        """With the changes that are tried out, or where gradients are read; see :meth:`LayerEditor.passing`."""
        if name in self._probes:
            return leaving + self._probes[name]
        if name in self._changes:
            return leaving + nn.functional.linear(entering, self._changes[name].to(entering.dtype))
        return None

    def trying(self, changes: dict[str, Tensor]) -> None:
        """Let the model run with changes that are not made yet; with none it is as before."""
        self._changes = changes
