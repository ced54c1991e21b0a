"""Cells of an experiment that run at once, each in a process of its own, give what they give one after the other."""

import json
import os
import signal
import subprocess
import sys

import psutil
import pyarrow.parquet as pq
import pytest
from helpers.toy import SeededToys  # noqa: F401 - the processes import it from here
from helpers.waiting import wait_until

from reasonedit import cli
from reasonedit.experiments import read_cell

pytestmark = pytest.mark.usefixtures("hash_encoder")


@pytest.fixture
def config(tiny_folder, tmp_path):
    source = {"class_path": "helpers.toy.SeededToys"}
    path = tmp_path / "config.yaml"
    path.write_text(
        json.dumps(
            {
                "model": {
                    "class_path": "reasonedit.VLMModule",
                    "init_args": {"model": str(tiny_folder), "dtype": "float32", "max_new_tokens": 3},
                },
                "data": {"class_path": "reasonedit.EditStream", "init_args": {"source": source, "batch_size": 4}},
            }
        )
    )
    return path


def run(config, out, *more):
    arguments = ["experiment", "main", "--config", config, "--out", out, "--seeds", 0, 1, "--edits", 2]
    return cli.main([*map(str, [*arguments, "--rows", "none", "ike", *more])])


def cells(out):
    return {p.stem: read_cell(p) for p in sorted((out / "main" / "cells").glob("*.parquet"))}


def test_cells_at_once_are_those_of_one_after_the_other(config, tmp_path, capsys):
    assert run(config, tmp_path / "alone") == 0
    assert "at once:" not in capsys.readouterr().out
    assert run(config, tmp_path / "beside", "--jobs", 2) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "4/4" in said
    assert "Up to 2 cells ran at once: their times are no measure" in said
    alone, beside = cells(tmp_path / "alone"), cells(tmp_path / "beside")
    assert list(alone) == list(beside) == ["ike-0", "ike-1", "none-0", "none-1"]
    for name, (record, rows) in alone.items():
        other, other_rows = beside[name]
        for key in ("metrics", "probes", "data", "code", "model", "editor", "asked"):
            assert record[key] == other[key], (name, key)
        assert [(r["id"], r["answer"]) for r in rows] == [(r["id"], r["answer"]) for r in other_rows]
    summaries = [pq.read_table(tmp_path / o / "main" / "summary.parquet").to_pylist() for o in ("alone", "beside")]
    assert [r["row"] for r in summaries[0]] == [r["row"] for r in summaries[1]]
    assert run(config, tmp_path / "beside", "--rows", "none") == 0  # the other row's encoder is another one here
    assert capsys.readouterr().out.count("there already") == 2


@pytest.mark.slow
def test_an_error_in_a_process_is_told_once_and_leaves_the_cells_that_are_there(config, tmp_path, capsys):
    assert run(config, tmp_path / "out", "--rows", "none") == 0
    content = json.loads(config.read_text())
    capsys.readouterr()
    content["model"]["init_args"]["model"] = str(tmp_path / "nowhere")
    config.write_text(json.dumps(content))
    assert run(config, tmp_path / "out", "--jobs", 2) == 1
    error = capsys.readouterr().err
    assert "nowhere" in error
    assert "Traceback" not in error
    assert {"none-0", "none-1"} <= set(cells(tmp_path / "out"))


@pytest.mark.parametrize("jobs", ["0", "-1", "many"])
def test_jobs_must_be_a_number(jobs, capsys):
    with pytest.raises(SystemExit):
        cli.main(["experiment", "main", "--jobs", jobs])
    assert "is not a number of 1 or more" in capsys.readouterr().err


def test_a_process_that_is_killed_is_one_sentence(config, tmp_path, capsys, monkeypatch):
    (tmp_path / "dying.py").write_text(
        "import os, signal\n"
        "from reasonedit.callbacks.baselines import Unedited\n"
        "class Dying(Unedited):\n"
        "    def setup(self, *args, **named):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments = ["--editor", "dying.Dying", "--rows", "none", "--jobs", 2]
    assert run(config, tmp_path / "out", *arguments) == 1
    error = capsys.readouterr().err
    assert "was ended from outside" in error
    assert "fewer --jobs" in error
    assert "Traceback" not in error


def begin(config, tmp_path, hook, **options):
    """An experiment in two processes, whose editor says in a hook that it is there, and stays."""
    (tmp_path / "held.py").write_text(
        "import os, time\n"
        "from reasonedit.callbacks.baselines import Unedited\n"
        "class Held(Unedited):\n"
        f"    def {hook}(self, *args, **named):\n"
        f"        open({str(tmp_path)!r} + '/at-' + str(os.getpid()), 'w').close()\n"
        "        for _ in range(10**6):\n"
        "            time.sleep(0.1)\n"
    )
    call = ["experiment", "main", "--config", config, "--out", tmp_path / "out", "--seeds", "0", "1", "--edits", "2"]
    call += ["--editor", "held.Held", "--rows", "none", "--jobs", "2"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [sys.executable, "-m", "reasonedit.cli", *map(str, call)]
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options)


def at(tmp_path):
    """The processes that are there."""
    return [int(path.name.removeprefix("at-")) for path in tmp_path.glob("at-*")]


@pytest.mark.slow
def test_no_process_outlives_the_one_that_began_it(config, tmp_path):
    with begin(config, tmp_path, "setup") as process:
        wait_until(lambda: len(at(tmp_path)) == 2, process)
        held = at(tmp_path)
        process.kill()

    def is_gone(number):
        try:
            return psutil.Process(number).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    wait_until(lambda: all(map(is_gone, held)), ceiling=120)


@pytest.mark.parametrize(
    "when", [pytest.param("while the processes begin", marks=pytest.mark.slow), "in the middle of a cell"]
)
def test_ctrl_c_ends_all_at_once_and_leaves_nothing_half_done(config, tmp_path, when):
    """The terminal sends it to all processes of the group: one of them says so, once."""
    interruptible = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    with begin(config, tmp_path, "on_predict_end", start_new_session=True, **interruptible) as process:
        own = psutil.Process(process.pid)
        if when == "in the middle of a cell":
            wait_until(lambda: len(at(tmp_path)) == 2, process)
        else:
            wait_until(lambda: len(own.children()) == 3, process)  # with Python's tracker of shared resources
        begun, out = own.children(recursive=True), tmp_path / "out" / "main"
        ended = ["none-0", "none-1"] if when == "in the middle of a cell" else []
        under_way = {p.name for p in out.glob("tensorboard/*")} - set(ended)
        assert len(under_way) == len(ended)  # there is something to take away
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate()[1]
    assert process.returncode == 130
    assert said.splitlines()[-1] == "reasonedit: Interrupted."
    assert "Traceback" not in said
    assert "resource_tracker" not in said
    wait_until(lambda: not any(map(psutil.Process.is_running, begun)))
    assert sorted(p.name for p in out.glob("tensorboard/*")) == ended
    assert sorted(p.name for p in out.glob("cells/*")) == [f"{name}.parquet" for name in ended]
