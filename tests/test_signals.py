"""SIGTERM is Ctrl-C: what was edited is saved, one message says so, and all ranks end."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import lightning as L
import pyarrow.parquet as pq
import pytest
from helpers.commands import left_of, ranks_of, started, write_config
from helpers.tiny import design
from helpers.toy import ToySource
from helpers.waiting import CEILING, wait_until
from lightning.fabric.plugins.environments import SLURMEnvironment

from reasonedit import EditStream, VLMModule
from reasonedit.callbacks import Codebook, Retriever
from reasonedit.cli import COMMANDS, main
from reasonedit.codebook import EditMemory, Store
from reasonedit.ranks.pulse import PATIENCE, _open_store
from reasonedit.util.signals import Interrupted, Watch, watch_signals

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
BOTH = [(signal.SIGTERM, 143), (signal.SIGINT, 130)]


@pytest.fixture(autouse=True)
def interruptible():
    """Whoever starts the tests in the background may have Ctrl-C ignored, which a command then respects."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "code"), BOTH)
def test_a_signal_is_raised_where_it_can_be_caught_and_handlers_are_those_of_before_afterwards(number, code):
    before = signal.getsignal(number)
    with watch_signals() as watch, watch_signals() as inner:
        assert inner is watch
        with pytest.raises(Interrupted) as stop:
            signal.raise_signal(number)
        signal.raise_signal(number)  # the same one again
    assert stop.value.code == code
    assert signal.getsignal(number) == before
    assert Watch.active is None


def test_signals_of_somebody_else_are_left_to_him():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with watch_signals() as watch:
            assert watch is None
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


def test_a_thread_handles_no_signals():
    found = []
    thread = threading.Thread(target=lambda: found.append(watch_signals().__enter__()))
    thread.start()
    thread.join()
    assert found == [None]


_STUCK = """
import contextlib, hashlib
from reasonedit.util import signals
signals.GRACE, signals._SAME = {grace}, {same}
with signals.watch_signals() as watch:
    watch.message = lambda: "what was made is saved"
    watch.on_signal.append(lambda: print(" heard", end="", flush=True))
    for told in ("ready", ""):
        with contextlib.suppress(signals.Interrupted):
            print(told, end="", flush=True)
            hashlib.pbkdf2_hmac("sha256", b"", b"", 1 << 30)  # no handler of Python is called before its end
"""


@pytest.mark.parametrize(("grace", "same", "times"), [(0.2, 1.0, 1), (1e6, 0.0, 2)], ids=["in vain", "twice"])
def test_a_process_that_does_not_react_is_ended_with_its_message(grace, same, times):
    call = [sys.executable, "-c", _STUCK.format(grace=grace, same=same)]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.read(5) == "ready"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read(6) == " heard"
        for _ in range(1, times):
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=CEILING) == 143
        assert process.stderr.read() == "\nwhat was made is saved\n"


_FORKS = """
import os, signal
from reasonedit.util import signals
there, tell = os.pipe()
with signals.watch_signals() as watch:
    child = os.fork()
    if not child:
        os.write(tell, b"x")
        signal.pause()
    os.read(there, 1)
    os.kill(child, signal.SIGTERM)
    print(os.WTERMSIG(os.waitpid(child, 0)[1]), watch.signal_number)
"""


def test_a_signal_to_the_child_of_a_fork_is_the_childs():
    done = subprocess.run([sys.executable, "-c", _FORKS], capture_output=True, text=True, check=False, timeout=CEILING)
    assert done.stdout.split() == ["15", "0"], done.stderr


@pytest.mark.parametrize(("number", "code"), BOTH)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_ends_by_a_signal_in_one_sentence(command, number, code, monkeypatch, capsys):
    module = f"reasonedit.commands.{command.replace('-', '_')}"
    monkeypatch.setitem(sys.modules, module, SimpleNamespace(main=lambda _: signal.raise_signal(number)))
    assert main([command]) == code
    assert capsys.readouterr().err == "reasonedit: Interrupted.\n"


class Sent(L.Callback):
    """Sends its own process a signal in the third batch."""

    def on_predict_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        if batch_idx == 2:
            os.kill(os.getpid(), signal.SIGTERM)


def predict(tiny_vlm, folder, **options):
    callbacks = [Codebook(folder, design()), Retriever(), Sent()]
    trainer = L.Trainer(accelerator="cpu", devices=1, callbacks=callbacks, **QUIET, **options)
    trainer.predict(VLMModule(tiny_vlm, max_new_tokens=2), datamodule=EditStream(ToySource(5), batch_size=1))


@pytest.mark.usefixtures("hash_encoder")
def test_a_trainers_run_ends_by_sigterm_with_its_edits_saved(tiny_vlm, tmp_path, caplog):
    before = signal.getsignal(signal.SIGTERM)
    with caplog.at_level(logging.WARNING), pytest.raises(SystemExit) as stop:
        predict(tiny_vlm, tmp_path / "book")
    assert stop.value.code == 143
    assert len(EditMemory.open(Store.open(tmp_path / "book")).edits) == 3
    assert f"The run stopped early. 3 edits are saved in '{tmp_path}/book'." in caplog.text
    assert Watch.active is None
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.usefixtures("hash_encoder")
def test_a_handler_of_ones_own_is_called_and_the_run_goes_on(tiny_vlm, tmp_path):
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        predict(tiny_vlm, tmp_path / "book")
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(EditMemory.open(Store.open(tmp_path / "book")).edits) == 5


@pytest.mark.usefixtures("hash_encoder")
def test_a_job_that_slurm_requeues_ends_by_itself(tiny_vlm, tmp_path, monkeypatch):
    for name, value in {"NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0", "JOB_ID": "7"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    predict(tiny_vlm, tmp_path / "book", plugins=[SLURMEnvironment(auto_requeue=True)])
    assert len(EditMemory.open(Store.open(tmp_path / "book")).edits) == 5


def test_ranks_of_one_machine_meet_where_no_other_machine_reaches_them():
    store = _open_store(SimpleNamespace(num_nodes=1, global_rank=0, world_size=1))
    with socket.create_connection(("127.0.0.1", store.port)):
        pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", store.port))


def test_ctrl_c_saves_what_was_edited_and_says_where(tmp_path, tiny_folder):
    config, held = write_config(tmp_path / "run.yaml", tiny_folder), tmp_path / "held"
    words = ("run", "--config", config, "--out", tmp_path / "run")
    with started(tmp_path, *words, env={"HOLD": str(held)}) as (run, said):
        wait_until(lambda: held.exists() and begun(tmp_path), run)
        run.send_signal(signal.SIGINT)
        assert run.wait(timeout=CEILING) == 130, said.read_text()[-3000:]
    saved(tmp_path, said.read_text())
    edits = EditMemory.open(Store.open(tmp_path / "run" / "codebook")).edits
    assert pq.read_table(tmp_path / "run" / "predictions.parquet").num_rows >= len(edits)


def test_a_signal_to_one_rank_ends_both_while_the_other_waits_for_it(tmp_path, tiny_folder):
    config, held = write_config(tmp_path / "run.yaml", tiny_folder), tmp_path / "held"
    words = ("run", "--config", config, "--out", tmp_path / "run", "--trainer.devices", 2, "--trainer.strategy", "ddp")
    with started(tmp_path, *words, env={"HOLD": str(held), "HOLD_RANK": "1"}) as (process, said):
        wait_until(lambda: held.exists() and begun(tmp_path), process)
        os.kill(int(held.read_text()), signal.SIGTERM)
        assert process.wait(timeout=CEILING) == 143, said.read_text()[-3000:]
        wait_until(lambda: not left_of(process))
    saved(tmp_path, said.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("edits", [2, 6, 14])
@pytest.mark.parametrize(("number", "code"), BOTH)
@pytest.mark.parametrize("whom", ["one process", "ddp 0", "ddp 1", "ddp 0 1", "torchrun 0 1", "torchrun 1", "torchrun"])
def test_a_signal_whenever_it_comes_ends_all_and_saves(tmp_path, tiny_folder, whom, number, code, edits):
    launch, *ranks = whom.split()
    words = ["run", "--config", write_config(tmp_path / "run.yaml", tiny_folder, 60), "--out", tmp_path / "run"]
    if launch != "one":
        words += ["--trainer.devices", 2, "--trainer.strategy", "ddp"]
    with started(tmp_path, *words, torchrun=launch == "torchrun") as (process, said):
        wait_until(lambda: begun(tmp_path, edits), process)
        there = ranks_of(process)
        for pid in [there[int(rank)] for rank in ranks if rank.isdigit()] or [process.pid]:
            os.kill(pid, number)
        assert process.wait(timeout=CEILING) == (1 if launch == "torchrun" else code), said.read_text()[-3000:]
        wait_until(lambda: not left_of(process))
    saved(tmp_path, said.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_signal_while_the_model_is_loaded_ends_all(tmp_path, tiny_folder, ranks):
    words = ["run", "--config", write_config(tmp_path / "run.yaml", tiny_folder), "--out", tmp_path / "run"]
    words += ["--trainer.devices", ranks, "--trainer.strategy", "ddp"] if ranks > 1 else []
    with started(tmp_path, *words, env={"HOLD": str(tmp_path / "held")}) as (process, said):
        wait_until(lambda: len(ranks_of(process)) == ranks and (tmp_path / "run").exists(), process)
        process.terminate()
        assert process.wait(timeout=CEILING) == 143, said.read_text()[-3000:]
        wait_until(lambda: not left_of(process))
    assert said.read_text().count("Interrupted") == 1, said.read_text()[-3000:]


@pytest.mark.slow
def test_ranks_that_are_stopped_together_go_on_together(tmp_path, tiny_folder):
    words = ["run", "--config", write_config(tmp_path / "run.yaml", tiny_folder), "--out", tmp_path / "run"]
    words += ["--trainer.devices", 2, "--trainer.strategy", "ddp"]
    held = tmp_path / "held"
    with started(tmp_path, *words, env={"HOLD": str(held)}) as (process, said):
        wait_until(lambda: held.exists() and begun(tmp_path), process)
        os.killpg(process.pid, signal.SIGSTOP)
        time.sleep(PATIENCE + 5)  # as long as a rank that is missed would be waited for
        os.killpg(process.pid, signal.SIGCONT)
        time.sleep(15)
        assert process.poll() is None, said.read_text()[-3000:]
        process.terminate()
        assert process.wait(timeout=CEILING) == 143, said.read_text()[-3000:]
    saved(tmp_path, said.read_text())


def begun(folder, edits=1):
    """Whether so many edits are on the disk."""
    book = folder / "run" / "codebook"
    return Store.exists(book) and len(EditMemory.open(Store.open(book)).edits) >= edits


def saved(folder, said):
    """One message says what is saved, and it is."""
    edits = len(EditMemory.open(Store.open(folder / "run" / "codebook")).edits)
    assert edits
    message = f"Interrupted. The {edits} edits made so far are saved in '{folder}/run/codebook'."
    assert said.count("Interrupted") == said.count(message) == 1, said[-3000:]
    assert f"run --resume {folder}/run\n" in said.partition("To go on: ")[2]
    assert "cannot reach the other ranks" not in said
    assert "frame #" not in said or "torch/distributed/run.py" in said  # torchrun says what it likes
