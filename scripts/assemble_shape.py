"""Assemble what scripts/align_tower.py trained for another shape into a folder that loads by its path, as any VLM does.

No package offers it under a name, and it has no design of its own: to ReasonEdit it is a user's VLM.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from vlm_shapes import SHAPES

from reasonedit.data.world.embedded import WEIGHTS, join_parts, load_adapted_language_model, save_vlm


def assemble(shape_name: str, tower: Path, adapter: Path, target: Path) -> None:
    """Join language model, adapter, tower and projector, and save an ordinary folder.

    Args:
        shape_name: One of :data:`~vlm_shapes.SHAPES`.
        tower: The safetensors file of the tower and the projector.
        adapter: The folder of the adapter.
        target: The folder to write; it may be there already.
    """
    from transformers import AutoModelForImageTextToText

    shape = SHAPES[shape_name]
    language, tokenizer, _ = load_adapted_language_model(adapter)
    processor = shape.processor(tokenizer)
    tokenizer = processor.tokenizer
    config = shape.config(language.config)
    config.image_token_id = processor.image_token_id
    model: Any = AutoModelForImageTextToText.from_config(config)
    join_parts(model, language, tokenizer, tower)
    if shape.around:  # the adapter was not trained on the shape's own tokens: they begin as ones that it leaves alone
        rows = model.get_input_embeddings().weight.data
        own = (processor.start_image_token_id, processor.end_image_token_id)
        rows[list(own)] = rows[tokenizer.convert_tokens_to_ids(list(shape.around))]
    target.mkdir(parents=True, exist_ok=True)
    save_vlm(target, model, processor)
    logging.info("%s: %.0f million parameters", target, sum(p.numel() for p in model.parameters()) / 1e6)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--source", type=Path, help="folder with tower.safetensors (default: runs/SHAPE_vlm)")
    parser.add_argument("--adapter", type=Path, default=WEIGHTS / "adapter", help="default: the packaged one")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    source = args.source or Path(f"runs/{args.shape}_vlm")
    assemble(args.shape, source / "tower.safetensors", args.adapter, args.out)


if __name__ == "__main__":
    main()
