"""What LightningCLI makes of the configs of a run: the trainer with its callbacks, the model and the data."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningCLI

from reasonedit.config.files import refuse_code
from reasonedit.config.merging import REFUSALS, Config
from reasonedit.errors import InputError


class _CLI(LightningCLI):
    """Refuses what a config may not ask for; here all of it is known, files that it names included."""

    def __init__(self, *args: Any, trusted: bool, **kwargs: Any) -> None:
        self._trusted = trusted
        super().__init__(*args, **kwargs)

    def before_instantiate_classes(self) -> None:
        refuse_code(self.config, trusted=self._trusted)


def parse_run(config: Config, folder: Path) -> LightningCLI:
    """Make the parts of a run.

    Args:
        config: The configs and overrides.
        folder: The results folder.

    Raises:
        ReasonEditError: The configs cannot be used.
    """
    logging.getLogger("lightning.fabric.utilities.seed").setLevel(logging.ERROR)
    try:
        return _CLI(
            L.LightningModule,
            L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            run=False,
            save_config_callback=None,
            seed_everything_default=0,
            trainer_defaults={
                "default_root_dir": str(folder),
                "logger": {
                    "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
                    "init_args": {"save_dir": str(folder), "name": "tensorboard", "version": ""},
                },
                "enable_checkpointing": False,
                "enable_model_summary": False,
            },
            parser_kwargs={"exit_on_error": False},
            args=config.arguments(),
            trusted=config.trusted,
        )
    except MisconfigurationException as error:
        raise InputError(f"The trainer cannot be made with these settings: {error}") from error
    except REFUSALS as error:
        raise config.explain(error) from error


def save_merged_config(cli: LightningCLI, folder: Path) -> None:
    """Write what a run was made from, all configs and overrides in one file ``config.yaml``.

    What names the run's own folder is left out, so that it can be run again.
    """
    config = cli.config.clone()
    del config["trainer"]["default_root_dir"]
    if getattr(config["trainer"]["logger"], "init_args", {}).get("save_dir") == str(folder):
        del config["trainer"]["logger"]
    cli.parser.save(config, folder / "config.yaml", skip_validation=True)
