"""``reasonedit run``: an edit stream described by YAML files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from .configs import add_config, read_configs
from .screen import Screen

_console = Screen()


def main(argv: Sequence[str]) -> int:
    """Run a stream and print its table."""
    parser = _parser()
    arguments, overrides = parser.parse_known_args(argv)
    if (arguments.config is None) == (arguments.resume is None):
        parser.error("name a YAML file with --config, or a folder with --resume")
    if arguments.resume is not None and arguments.out is not None:
        parser.error("--resume goes on in its own folder: leave --out out")
    from .results_table import results_table
    from .stream_run import begin_run, resume_run

    if arguments.resume is not None:
        run = resume_run(arguments.resume, overrides, trusted=arguments.trust_remote_code)
    else:
        run = begin_run(read_configs(arguments, overrides), arguments.out)
    if not run.trainer.is_global_zero:
        return 0
    if run.results:
        _console.print(results_table(run.results))
        for note in run.notes:
            _console.tell(note)
    _console.print(f"Everything was written to {run.folder}", markup=False, soft_wrap=True)
    if run.page is not None:
        _console.print(f"A page to look at: {run.page}", markup=False, highlight=False, soft_wrap=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="reasonedit run",
        description="Run an edit stream. Model, data, callbacks and trainer come from YAML files; any of their values "
        "can be set here too, such as --trainer.devices 1 or --data.init_args.batch_size 4.",
        epilog="A config is code: whatever class it names is called. Run only configs that you would run as a script. "
        "Example: reasonedit run --config configs/demo.yaml --out runs/mine",
    )
    add_config(parser, "YAML file")
    parser.add_argument(
        "--resume",
        type=Path,
        default=None,
        metavar="FOLDER",
        help="go on with the run in this results folder that was cut short; takes the place of --config",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=None,
        help="results folder, or one beside it where it exists (default: runs/ and the file's name)",
    )
    return parser
