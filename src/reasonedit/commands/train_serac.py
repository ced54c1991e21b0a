"""``reasonedit train-serac``: the networks that the baseline SERAC needs, trained once for a model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from reasonedit.errors import InputError

from .configs import add_config, parse_with_overrides, read_configs
from .screen import Screen, counting, waiting
from .train_mend import file_to_write

SCOPES = ("near", "all")
"""As in :mod:`reasonedit.callbacks.baselines.serac_training`, which takes torch."""
_console = Screen(stderr=True)


def main(argv: Sequence[str]) -> int:
    """Train, and write the networks."""
    parser = argparse.ArgumentParser(
        prog="reasonedit train-serac",
        description="Train SERAC's scope classifier and counterfactual model, on the samples and probes of a config's "
        "stream. Use another split or seed than the one that is edited later.",
    )
    add_config(parser, "YAML file, as for reasonedit run", required=True)
    parser.add_argument("--out", type=file_to_write, required=True, help="file to write (.safetensors)")
    parser.add_argument(
        "--steps", type=int, default=600, help="steps of Adam of the counterfactual model (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the order of the samples (default: 0)")
    parser.add_argument(
        "--scope", choices=SCOPES, default="near", help="which probes count as in scope (default: %(default)s)"
    )
    arguments, overrides = parse_with_overrides(parser, argv)
    if arguments.steps < 1:
        raise InputError(f"--steps must be 1 or more, not {arguments.steps}.")
    from reasonedit.callbacks.baselines import SERAC
    from reasonedit.callbacks.baselines.serac_training import CLASSIFIER_STEPS, train
    from reasonedit.config.merging import load_module_and_stream

    with waiting("loading the VLM"):
        module, stream = load_module_and_stream(read_configs(arguments, overrides))
    serac = SERAC.with_new_network(module.vlm)
    with counting() as bar:
        task = bar.add_task("training", total=CLASSIFIER_STEPS + arguments.steps)
        options = {"steps": arguments.steps, "seed": arguments.seed, "scope": arguments.scope}
        for step in train(serac, stream.source, **options):
            bar.update(task, advance=1, description=f"{step.part}: loss {step.loss:.2f}")
    assert serac.network is not None
    serac.network.save(arguments.out, serac.fingerprint())
    _console.say(f"Written to {arguments.out}")
    return 0
