"""Text-to-image models that show a scene."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from reasonedit.errors import UnavailableError, needed

_BLANK = 2.0  # a picture whose pixels (0 to 255) have a smaller standard deviation shows nothing


class Painter:
    """A text-to-image pipeline of diffusers.

    Args:
        pipeline: The pipeline.
        name: Where it was loaded from.
    """

    def __init__(self, pipeline: Any, name: str) -> None:
        self.pipeline, self.name = pipeline, name

    @classmethod
    def from_pretrained(cls, name: str) -> Painter:
        """Load one by hub id or folder.

        Raises:
            UnavailableError: It cannot be had, or makes no images of texts.
        """
        import torch

        diffusers = needed("diffusers", "data")

        try:
            dtype = torch.float16 if torch.cuda.is_available() else torch.float32
            pipeline = diffusers.AutoPipelineForText2Image.from_pretrained(name, dtype=dtype)
        except (OSError, ValueError, ImportError, AttributeError, KeyError) as error:
            raise UnavailableError(
                f"There is no text-to-image pipeline '{name}' ({str(error).strip().splitlines()[0]}): give a hub id or "
                "a folder of diffusers."
            ) from error
        if torch.cuda.is_available():
            pipeline.to("cuda")
        pipeline.set_progress_bar_config(disable=True)
        return cls(pipeline, name)

    def paint(self, prompt: str, seed: int) -> Image.Image | None:
        """A picture of a scene; none where what came out shows nothing (as a safety checker's black picture)."""
        import torch

        image = self.pipeline(prompt=prompt, generator=torch.Generator().manual_seed(seed)).images[0].convert("RGB")
        return image if float(np.asarray(image, dtype=np.float32).std()) > _BLANK else None
