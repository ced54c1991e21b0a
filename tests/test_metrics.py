"""The metrics, alone and synced over two processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from reasonedit.metrics import METRICS, Locality, Reliability, editing_metrics, matches


@pytest.mark.parametrize("metric", METRICS)
def test_each_metric_counts_its_own_samples_only(metric):
    made = metric()
    groups = [metric.group, metric.group, "other", metric.group]
    made.update(["Cup", " a key. ", "x", "tree"], ["cup", "key", "x", "leaf"], groups)
    made.update(["fish"], ["boat"], [metric.group])
    assert float(made.compute()) == pytest.approx(2 / 4)
    assert int(made.total) == 4


def test_names_of_the_groups_are_all_there_once():
    assert sorted(m.group for m in METRICS) == sorted(["rel", "t_gen", "i_gen", "r_gen", "coe_gen", "loc", "hard_loc"])
    assert sorted(editing_metrics()) == sorted(m.group for m in METRICS)


def test_without_samples_a_metric_says_so():
    metric = Reliability()
    metric.update(["a"], ["a"], ["loc"])
    with pytest.raises(ValueError, match="Reliability has no samples"):
        metric.compute()


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="2 answers, 1 targets and 2 groups"):
        Locality().update(["a", "b"], ["a"], ["loc", "loc"])


@pytest.mark.parametrize(
    ("answer", "target", "same"),
    [
        ("The Kitchen.", "kitchen", True),
        ("an  Anchor", "anchor", True),
        ("a", "a", True),
        ("theatre", "the atre", False),
        ("kettle", "kettles", False),
        ("", "kettle", False),
    ],
)
def test_what_counts_as_the_same_answer(answer, target, same):
    assert matches(answer, target) is same


_PROCESS = """
import json, os, sys
import torch.distributed as dist
from reasonedit.metrics import editing_metrics
rank = int(sys.argv[1])
os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": sys.argv[2]}
dist.init_process_group("gloo", rank=rank, world_size=2)
metrics = editing_metrics()
if rank == 0:  # three of four right, in two batches; the other rank has one sample of loc and nothing of rel
    metrics.update(["a", "b", "c"], ["a", "b", "x"], ["rel", "rel", "rel"])
    metrics.update(["d"], ["d"], ["rel"])
else:
    metrics.update(["z"], ["y"], ["loc"])
found = {g: float(m.compute()) for g, m in metrics.items() if g in ("rel", "loc")}
try:
    metrics["t_gen"].compute()
except ValueError as error:
    found["t_gen"] = str(error)
print(json.dumps(found))
dist.destroy_process_group()
"""


def test_two_processes_with_uneven_and_empty_ranks_agree(tmp_path):
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    script = Path(tmp_path / "rank.py")
    script.write_text(_PROCESS)
    ranks = [
        subprocess.Popen(
            [sys.executable, script, str(r), port], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for r in range(2)
    ]
    said = [p.communicate(timeout=120) for p in ranks]
    assert [p.returncode for p in ranks] == [0, 0], said
    for out, _ in said:
        found = json.loads(out.strip().splitlines()[-1])
        assert found["rel"] == pytest.approx(0.75)
        assert found["loc"] == 0
        assert "no samples" in found["t_gen"]
