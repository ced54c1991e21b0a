"""What SERAC trains: its scope classifier, and the adapter of its counterfactual model, in one file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from reasonedit.errors import InputError, MismatchError, UnavailableError

from .lora import Adapter

HIDDEN, RANK, ALPHA = 64, 8, 16.0
"""Width of the classifier's hidden layer; rank and alpha of the adapter."""


class SeracNetwork(nn.Module):
    """The scope classifier and the adapter of the counterfactual model.

    The classifier compares two embeddings: of their difference (absolute) and their product, number by number, one
    hidden layer makes a logit.

    Args:
        width: Width of the embeddings.
        shapes: The layers of the adapter, see :class:`.lora.Adapter`.
        seed: Seed of both.
    """

    def __init__(self, width: int, shapes: dict[str, tuple[int, int]], seed: int = 0) -> None:
        super().__init__()
        self.width, self.shapes = width, shapes
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.scope = nn.Sequential(nn.Linear(2 * width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1))
        self.counterfactual = Adapter(shapes, RANK, ALPHA / RANK, seed)

    def logits(self, queries: Tensor, edits: Tensor) -> Tensor:
        """Logits that queries are in the scopes of edits, pair by pair: (pairs,), of embeddings (pairs, width)."""
        device = next(self.scope.parameters()).device
        # Embeddings are of unit length: scaled so that their numbers are near 1, as weights are made for.
        a, b = (x.to(device) * self.width**0.5 for x in (queries, edits))
        return torch.as_tensor(self.scope(torch.cat([(a - b).abs(), a * b], dim=1))[:, 0])

    def chances(self, queries: Tensor, edits: Tensor) -> Tensor:
        """The chance that each query is in the scope of each edit: (queries, edits), on the CPU."""
        rows = [self.logits(query.expand_as(edits), edits).sigmoid() for query in queries]
        return torch.stack(rows).cpu()

    def save(self, path: str | os.PathLike[str], fingerprint: dict[str, str]) -> None:
        """Write both (safetensors), with what they were trained for.

        Raises:
            UnavailableError: They cannot be written.
        """
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        about = {"width": self.width, "shapes": self.shapes, "fingerprint": fingerprint}
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            save_file({k: v.contiguous() for k, v in self.state_dict().items()}, path, {"about": json.dumps(about)})
        except (OSError, SafetensorError) as error:
            raise UnavailableError(f"The networks of SERAC cannot be written to '{path}' ({error}).") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str], fingerprint: dict[str, str]) -> SeracNetwork:
        """Read both.

        Raises:
            InputError: They are not there, or damaged.
            MismatchError: They were trained for another VLM, or with another encoder or wording.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                about = json.loads(file.metadata()["about"])
                network = cls(about["width"], {name: tuple(shape) for name, shape in about["shapes"].items()})
                network.load_state_dict({k: file.get_tensor(k) for k in file.keys()})  # noqa: SIM118 - no mapping
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise InputError(
                f"There are no networks of SERAC in '{path}' that can be read ({error}): train them with "
                "reasonedit train-serac --out FILE."
            ) from error
        if about["fingerprint"] != fingerprint:
            raise MismatchError(
                f"The networks of SERAC in '{path}' were trained for another VLM, encoder or wording: train others "
                "with reasonedit train-serac."
            )
        return network
