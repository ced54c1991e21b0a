"""``reasonedit train-mend``: the network that the baseline MEND needs, trained once for a model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from reasonedit.errors import InputError

from .configs import add_config, parse_with_overrides, read_configs
from .screen import Screen, counting, waiting

_console = Screen(stderr=True)


def file_to_write(text: str) -> Path:
    """A file of a command line that is written in the end; refused before, as the work would be lost."""
    if Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"'{text}' is a folder: name a file in it")
    return Path(text)


def main(argv: Sequence[str]) -> int:
    """Train, and write the network."""
    parser = argparse.ArgumentParser(
        prog="reasonedit train-mend",
        description="Train the network that makes MEND's gradients, on the samples of a config's stream. Use another "
        "split or seed than the one that is edited later.",
    )
    add_config(parser, "YAML file, as for reasonedit run", required=True)
    parser.add_argument("--out", type=file_to_write, required=True, help="file to write (.safetensors)")
    parser.add_argument("--steps", type=int, default=600, help="steps of Adam (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the order of the samples (default: 0)")
    arguments, overrides = parse_with_overrides(parser, argv)
    if arguments.steps < 1:
        raise InputError(f"--steps must be 1 or more, not {arguments.steps}.")
    from reasonedit.callbacks.baselines import MEND
    from reasonedit.callbacks.baselines.mend_training import train
    from reasonedit.config.merging import load_module_and_stream

    with waiting("loading the VLM"):
        module, stream = load_module_and_stream(read_configs(arguments, overrides))
    mend = MEND.with_new_network(module.vlm)
    with counting() as bar:
        task = bar.add_task("training", total=arguments.steps)
        for step in train(mend, stream.source, steps=arguments.steps, seed=arguments.seed):
            text = f"loss after the edit {step.edit_loss:.2f}, drift {step.drift:.3f}"
            bar.update(task, completed=step.number + 1, description=text)
    assert mend.network is not None
    assert mend.vlm is not None
    mend.network.save(arguments.out, mend.vlm.fingerprint)
    _console.say(f"Written to {arguments.out}")
    return 0
