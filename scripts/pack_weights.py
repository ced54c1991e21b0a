"""Put what was trained into the package: tower, projector and adapter in half precision."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from reasonedit.data.world.base_lm import HUB_ID
from reasonedit.data.world.embedded import WEIGHTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, default=Path("runs/embedded_vlm"), help="folder of the checkpoints")
    parser.add_argument("--target", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    (args.target / "adapter").mkdir(parents=True, exist_ok=True)
    for name in ("tower.safetensors", "adapter/adapter_model.safetensors"):
        tensors = {k: v.to(torch.bfloat16).contiguous() for k, v in load_file(args.source / name).items()}
        save_file(tensors, args.target / name)
    config = json.loads((args.source / "adapter" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = HUB_ID  # not the folder of the machine it was trained on
    config["target_modules"].sort()
    (args.target / "adapter" / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    size = sum(f.stat().st_size for f in args.target.rglob("*") if f.is_file())
    print(f"{args.target}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
