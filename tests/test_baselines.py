"""The other editors: each by the logic of its paper, and none leaves a trace in the model."""

import copy
import itertools

import lightning as L
import peft
import pytest
import torch
from helpers.editing import Letters, at_once, run
from helpers.tiny import HashEncoder, picture
from helpers.toy import ToySource

from reasonedit import Edit, EditStream, ReasonEditError, VLMModule
from reasonedit.callbacks import EditingMetrics, Editor, PredictionWriter
from reasonedit.callbacks.baselines import GRACE, IKE, MEND, RAG, WISE, BalancEdit, FineTuning, LoRA, Unedited
from reasonedit.callbacks.baselines.balancedit import radius
from reasonedit.callbacks.baselines.grace import SPLIT_SHARE, DeferralRadii
from reasonedit.callbacks.baselines.layer import last_linear
from reasonedit.callbacks.baselines.mend import GradientNetwork
from reasonedit.callbacks.baselines.mend_training import train
from reasonedit.callbacks.baselines.serac_network import SeracNetwork
from reasonedit.callbacks.baselines.training_example import TrainingExample, enable_gradients
from reasonedit.vlm import as_vlm, load_vlm

pytestmark = pytest.mark.usefixtures("hash_encoder")


def letters(vlm, text):
    """Token ids without the space before: one vector at one token of a random model says one token."""
    return vlm.tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("made", [GradientNetwork(["a"], 2, 3, rank=1), SeracNetwork(2, {"a": (2, 3)})])
def test_a_network_that_cannot_be_written_is_told_in_words(made, tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "network.safetensors"):
        with pytest.raises(ReasonEditError, match="cannot be written to"):
            made.save(path, {})


@pytest.fixture(scope="module")
def network(tiny_vlm, tmp_path_factory):
    """MEND for the tiny model: of random weights nothing can be learnt but to follow the gradient."""
    path = tmp_path_factory.mktemp("mend") / "network.safetensors"
    patch = pytest.MonkeyPatch()
    patch.setattr("reasonedit.callbacks.baselines.mend.BLOCKS", (-2, -1))
    mend = MEND.with_new_network(tiny_vlm, rank=8)
    before = copy.deepcopy(tiny_vlm.model.state_dict())
    steps = list(train(mend, ToySource(3), steps=60, lr=0.05))
    patch.undo()
    assert all(torch.equal(before[k], v) for k, v in tiny_vlm.model.state_dict().items())
    assert not tiny_vlm.__dict__.get("shares_prefix")
    first, last = (sum(s.edit_loss for s in part) / len(part) for part in (steps[:10], steps[-10:]))
    assert last < first
    mend.network.save(path, tiny_vlm.fingerprint)
    return path


def editors(network):
    return {
        "none": Unedited(),
        "ike": IKE(),
        "ike-cot": IKE(reasoning=True),
        "rag": RAG(),
        "grace": GRACE(-2),
        "grace-cot": GRACE(-2, reasoning=True),
        "ft": FineTuning(-2, steps=80, lr=1e-2),
        "lora": LoRA(steps=80, lr=1e-2),
        "balancedit": BalancEdit(-2, steps=80, lr=1e-2),
        "wise": WISE(-2, steps=80, lr=3e-3, ratio=0.5),
        "mend": MEND(network),
    }


EDITORS = ("none", "ike", "ike-cot", "rag", "grace", "grace-cot", "ft", "lora", "balancedit", "wise", "mend")
WITH_GRADIENTS = ("grace", "lora", "mend")
"""Whether Lightning has torch in inference mode changes only how these get at their gradients: one of each kind."""


@pytest.mark.parametrize(
    ("name", "inference"),
    [
        *(pytest.param(name, True, id=f"{name}-inference mode") for name in EDITORS),
        *(
            pytest.param(name, False, id=f"{name}-no_grad", marks=() if name in WITH_GRADIENTS else pytest.mark.slow)
            for name in EDITORS
        ),
    ],
)
def test_an_editor_edits_and_leaves_the_model_as_it_was(tiny_vlm, network, tmp_path, monkeypatch, name, inference):
    editor = editors(network)[name]
    before = copy.deepcopy(tiny_vlm.model.state_dict())
    if name.startswith("grace"):
        monkeypatch.setattr(tiny_vlm, "continuation", lambda _, text: letters(tiny_vlm, text))
    longest = 1 if name.startswith("grace") else 2
    rows = run(tiny_vlm, editor, longest=longest, path=tmp_path / "rows", inference_mode=inference)
    after = tiny_vlm.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)  # bit for bit
    linear = [m for m in tiny_vlm.model.modules() if isinstance(m, torch.nn.Linear)]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in linear)
    assert "shares_prefix" not in tiny_vlm.__dict__
    assert set(editor.seconds) == {r["edit"] for r in rows if r["phase"] == "edit" and not r["right"]}
    assert editor.edits >= 2
    if name in ("grace", "ft", "lora", "balancedit", "wise"):  # they learn the very answer
        assert at_once(rows) == 1
    if name == "none":
        assert all(r["answer"] == r["before"] for r in rows if r["phase"] == "probe")


def test_the_model_comes_back_when_a_run_fails(tiny_vlm, tmp_path):
    class Breaks(L.Callback):
        def on_predict_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
            if batch["phase"] == "probe":
                raise RuntimeError("stop")

    before = copy.deepcopy(tiny_vlm.model.state_dict())
    with pytest.raises(RuntimeError, match="stop"):
        run(tiny_vlm, FineTuning(-2, steps=200, lr=1e-2), Breaks(), path=tmp_path / "rows")
    assert all(torch.equal(before[k], v) for k, v in tiny_vlm.model.state_dict().items())


@pytest.mark.parametrize("name", ["ft", "lora", "grace", "wise", "balancedit"])
def test_an_edit_that_is_cut_short_leaves_nothing_behind(tiny_vlm, tmp_path, monkeypatch, name):
    """The same callback goes on as if it had never been begun."""

    def answers(editor, number):
        rows = run(tiny_vlm, editor, edits=2, path=tmp_path / f"{number}")
        return [(r["phase"], r["edit"], r["answer"]) for r in rows if r["phase"] != "edit"]

    def editor():
        of_name = {**editors(""), "wise": WISE(-2, steps=9, shard_edits=1, shards=3)}
        of_name[name].steps = 9
        return of_name[name]

    losses, cut, undisturbed = TrainingExample.losses, editor(), editor()
    passes = iter(range(14))  # in the midst of the second edit

    def stop(example):
        if next(passes, None) is None:
            raise RuntimeError("cut short")
        return losses(example)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingExample, "losses", stop)
        with pytest.raises(RuntimeError, match="cut short"):
            answers(cut, 0)
    assert cut.edits == 1
    assert answers(cut, 1) == answers(undisturbed, 2)
    assert cut.keys == undisturbed.keys


def test_edits_that_are_kept_count_in_the_next_run(tiny_vlm, tmp_path):
    editor = FineTuning(-2, steps=200, lr=1e-2)
    first = run(tiny_vlm, editor, edits=1, path=tmp_path / "a")
    second = run(tiny_vlm, editor, edits=1, path=tmp_path / "b")
    assert editor.edits == 1  # right by now: not written twice
    assert [r["right"] for r in first if r["phase"] == "edit"] == [False]
    assert [r["right"] for r in second if r["phase"] == "edit"] == [True]
    # What the unedited model says is asked of the unedited model.
    told = [[r["before"] for r in rows if r["phase"] == "probe"] for rows in (first, second)]
    assert told[0] == told[1]


@pytest.mark.parametrize("name", ["ft", "lora", "mend"])
def test_where_each_edit_stands_alone_the_model_is_its_own_before_each(tiny_vlm, network, tmp_path, name):
    """The last edit does what it does in a run of its own."""

    class Last(Letters):
        def candidates(self):
            return itertools.islice(super().candidates(), 2, None)

    answers = []
    for source, edits, options in ((Last, 1, {}), (Letters, 3, {"alone": True})):
        editor = editors(network)[name]
        rows = run(tiny_vlm, editor, edits=edits, source=source, stream=options, path=tmp_path / f"{edits}")
        of_last = [r for r in rows if r["edit"] == "edit-x"]
        answers.append([(r["phase"], r["group"], r["answer"]) for r in of_last])
    assert answers[0] == answers[1]
    assert [r["phase"] for r in rows[:3]] == ["edit", "check", "probe"]
    assert editor.edits == 3
    assert {r["edits"]: r["edit"] for r in rows if r["phase"] == "probe"} == {1: "edit-q", 2: "edit-w", 3: "edit-x"}


def test_all_probes_of_edits_that_stand_alone_count(tiny_vlm, tmp_path):
    metrics = EditingMetrics()
    run(tiny_vlm, FineTuning(-2, steps=200, lr=1e-2), stream={"alone": True}, metrics=metrics, path=tmp_path / "rows")
    assert list(metrics.history) == [3]
    assert metrics.results["rel"] == (1.0, 3)


def test_an_edit_that_was_taken_back_is_written_again_in_the_next_run(tiny_vlm, tmp_path):
    editor = FineTuning(-2, steps=200, lr=1e-2)

    def answers(number, **stream):
        rows = run(tiny_vlm, editor, edits=2, stream=stream, path=tmp_path / f"{number}")
        return [(r["phase"], r["edit"], r["answer"]) for r in rows]

    assert answers(0, alone=True) == answers(1, alone=True)
    answers(2)  # they may pile up, too: none of them is taken for written
    assert all(map(editor.has, editor.seconds))


def test_who_takes_no_edit_back_is_no_editor_of_edits_that_stand_alone(tiny_vlm, tmp_path):
    with pytest.raises(ReasonEditError, match=r"GRACE takes no edit back: leave the stream's 'alone' out"):
        run(tiny_vlm, GRACE(-2), stream={"alone": True}, path=tmp_path / "rows")
    with pytest.raises(ReasonEditError, match="leave interleave out"):
        EditStream(ToySource(), alone=True, interleave=2)


# ---- GRACE


def at(*values):
    return torch.tensor([float(v) for v in values])


def test_grace_adds_expands_and_splits():
    book = DeferralRadii(epsilon=1.0)
    assert book.place(at(0, 0), "cat") == "add"
    assert book.place(at(2.5, 0), "cat") == "add"  # beyond 1 + 1
    assert book.radii.tolist() == [1.0, 1.0]
    assert book.place(at(0, 1.5), "cat") == "expand"  # within 2 of the first, the same label
    assert book.radii.tolist() == [1.5, 1.0]
    assert book.place(at(0, 0.5), "cat") == "expand"  # nothing shrinks
    assert book.radii.tolist() == [1.5, 1.0]
    assert len(book) == 2
    assert book.place(at(0, 0.8), "Cat") == "split"  # labels are compared exactly
    assert book.labels == ["cat", "cat", "Cat"]
    assert book.radii.tolist() == pytest.approx([0.4 * SPLIT_SHARE, 1.0, 0.4])
    distance, row = book.nearest(at(0, 0.7)[None])
    assert (int(row), float(distance)) == (2, pytest.approx(0.1))


def test_grace_answers_within_the_radius_only(tiny_vlm, tmp_path, monkeypatch):
    monkeypatch.setattr(tiny_vlm, "continuation", lambda _, text: letters(tiny_vlm, text))
    narrow, wide = GRACE(-2, epsilon=1e-3), GRACE(-2, epsilon=1e9)
    rows = run(tiny_vlm, narrow, edits=1, longest=1, path=tmp_path / "a")
    assert at_once(rows) == 1
    by = {r["group"]: r for r in rows if r["phase"] == "probe"}
    assert by["t_gen"]["answer"] == by["t_gen"]["before"]  # deferred to the model
    rows = run(tiny_vlm, wide, edits=1, longest=1, path=tmp_path / "b")
    assert {r["answer"] for r in rows if r["phase"] == "probe"} == {"q"}


def test_grace_saves_and_loads(tiny_vlm, tmp_path):
    editor = GRACE(-2)
    before = run(tiny_vlm, editor, edits=2, path=tmp_path / "a")
    editor.save(tmp_path / "book")
    loaded = GRACE.load(tmp_path / "book")
    assert loaded.book.labels == editor.book.labels
    assert torch.equal(loaded.book.values, editor.book.values)
    after = run(tiny_vlm, loaded, edits=2, path=tmp_path / "b")
    assert [r["answer"] for r in after if r["phase"] == "probe"] == [
        r["answer"] for r in before if r["phase"] == "probe"
    ]
    (tmp_path / "book" / "grace.json").write_text("{")
    with pytest.raises(ReasonEditError, match="no codebook of GRACE"):
        GRACE.load(tmp_path / "book")


def test_grace_cot_reads_the_answer_before_the_line_break():
    editor, outputs = GRACE(-2, reasoning=True), ["boiling\nA kettle is used for boiling.", "a boat"]
    editor.on_predict_batch_end(None, None, outputs, {}, 0)
    assert outputs == ["boiling", "a boat"]
    outputs = {"answers": ["boiling\nA kettle is used for boiling."]}  # of somebody's own module
    editor.on_predict_batch_end(None, None, outputs, {}, 0)
    assert outputs == {"answers": ["boiling"]}


def test_grace_cot_stands_before_what_reads_its_answers(tiny_vlm):
    for behind in (EditingMetrics(), PredictionWriter()):
        trainer = L.Trainer(accelerator="cpu", logger=False, callbacks=[behind, GRACE(-2, reasoning=True)])
        with pytest.raises(ReasonEditError, match=f"GRACE must stand before {type(behind).__name__}"):
            trainer.predict(VLMModule(tiny_vlm), datamodule=EditStream(ToySource(1)))


# ---- IKE


def test_ike_puts_the_nearest_edits_before_every_question(tiny_vlm, tmp_path):
    rows = run(tiny_vlm, IKE(k=2), edits=4, source=ToySource, path=tmp_path / "a")
    probes = [r for r in rows if r["phase"] == "probe"]
    assert all(len(r["facts"]) == 2 for r in probes)  # always, whatever is asked
    own = next(r for r in probes if r["group"] == "rel" and r["edit"] == r["fact_edits"][0])
    number = own["target"].removeprefix("thing ")
    assert own["facts"][0] == f"New Fact: What is number {number}? {own['target']}."
    assert own["prompt"] == " ".join([*own["facts"], f"What is number {number}?"])
    # By an oracle that needs no index: question and answer of an edit, against the question that is asked.
    encode = HashEncoder().encode
    keys = encode([f"What is number {i}? thing {i}" for i in range(4)])
    for r in probes:
        question = r["prompt"].removeprefix(" ".join(r["facts"])).strip()
        distances = (keys - encode([question])).norm(dim=1)
        assert r["distances"] == pytest.approx(distances.sort().values[:2].tolist(), abs=1e-4)


def test_ike_cot_tells_the_reasoning_and_the_oracle_the_edit(tiny_vlm, tmp_path):
    rows = run(tiny_vlm, IKE(reasoning=True, oracle=True), source=ToySource, path=tmp_path / "a")
    for r in rows:
        if r["phase"] == "probe":
            assert r["fact_edits"] == [r["edit"]]
            assert len(r["facts"]) == 1
            assert " is round. It is thing " in r["facts"][0]


# ---- training examples


def test_a_training_example_runs_as_the_whole_model_does(tiny_vlm):
    image, prompt = picture(1), tiny_vlm.prompt("What is it?")
    expected = -tiny_vlm.log_likelihood(tiny_vlm.see([image]), [prompt], [["a boat", "no"]])[0]
    for block in (0, 1):
        layer = last_linear(tiny_vlm, block)
        with enable_gradients():
            vision = tiny_vlm.see([image])
            examples = [TrainingExample(tiny_vlm, vision, [prompt], [a], [layer]) for a in ("a boat", "no")]
            losses = torch.cat([example.losses() for example in examples])
        assert losses.tolist() == pytest.approx(expected.tolist(), abs=1e-4)


def test_gradients_are_those_of_the_whole_model(tiny_vlm, monkeypatch):
    """What passes only the blocks above gives the gradient that autograd finds through all of the model."""
    monkeypatch.setattr("reasonedit.callbacks.baselines.mend.BLOCKS", (-1,))
    mend = MEND.with_new_network(tiny_vlm, rank=4)
    tiny_vlm.shares_prefix = False
    mend.install()
    try:
        with enable_gradients():
            example = mend.example(tiny_vlm.see([picture(2)]), tiny_vlm.prompt("What is it?"), "a boat")
            (inputs, delta), (name,) = mend.gradients(example)[mend.layers[0]], mend.layers
            weight = mend.linear(name).weight.requires_grad_(True)
            (whole,) = torch.autograd.grad(example.losses().sum(), [weight])
            weight.requires_grad_(False)
    finally:
        mend.remove()
        del tiny_vlm.shares_prefix
    assert torch.allclose(delta.T @ inputs, whole, atol=1e-5)


def test_the_same_training_gives_the_same_network_of_mend(tiny_vlm, monkeypatch):
    monkeypatch.setattr("reasonedit.callbacks.baselines.mend.BLOCKS", (-1,))
    mends = [MEND.with_new_network(tiny_vlm, rank=4) for _ in range(2)]
    states = [[*train(mend, ToySource(2), steps=2)] and mend.network.state_dict() for mend in mends]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_mend_says_what_it_needs(tiny_vlm, tmp_path, network):
    with pytest.raises(ReasonEditError, match="train one with reasonedit train-mend"):
        run(tiny_vlm, MEND(tmp_path / "none.safetensors"), path=tmp_path / "a")
    from reasonedit.callbacks.baselines.mend import GradientNetwork

    with pytest.raises(ReasonEditError, match="trained on another model"):
        GradientNetwork.load(network, {"weights": "others"})


# ---- the rest


def test_an_adapter_in_the_model_is_none_of_its_layers(tiny_folder, tmp_path):
    loaded = load_vlm(str(tiny_folder), dtype="float32")
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    vlm = as_vlm(peft.get_peft_model(loaded.model, config), loaded.processor)
    before = copy.deepcopy(vlm.model.state_dict())
    for name, layers in (("ft", ["mlp.down_proj"]), ("lora", ["self_attn.q_proj", "self_attn.v_proj"])):
        editor = editors("")[name]
        assert at_once(run(vlm, editor, edits=2, path=tmp_path / name)) == 1
        assert {layer.split(".", 4)[-1] for layer in editor.layers} == {f"{layer}.base_layer" for layer in layers}
        assert all(torch.equal(before[k], v) for k, v in vlm.model.state_dict().items())


def test_what_belongs_to_another_vlm_is_refused(tiny_vlm, tiny_folder, network, tmp_path):
    same, other = (load_vlm(str(tiny_folder), dtype="float32") for _ in range(2))
    with torch.no_grad():
        other.model.get_submodule(last_linear(other, -2)).weight.add_(1)
    for editor, said in ((FineTuning(-2, steps=2), "holds edits of another VLM"), (MEND(network), "on another model")):
        run(tiny_vlm, editor, edits=1, path=tmp_path / "a")
        with pytest.raises(ReasonEditError, match=said):
            run(other, editor, edits=1, path=tmp_path / "b")
        run(same, editor, edits=1, path=tmp_path / "c")  # loaded anew


@pytest.mark.parametrize(
    ("positive", "negative", "expected"), [(0.1, 0.5, 0.12), (0.2, 0.2, 0.2), (0.5, 0.1, 0.1), (0.0, 1.0, 0.05)]
)
def test_balancedit_reaches_just_beyond_the_positive_sample(positive, negative, expected):
    assert radius(positive, negative, 0.05) == pytest.approx(expected)


def test_balancedit_uses_a_copy_where_an_edit_reaches(tiny_vlm, tmp_path):
    editor = BalancEdit(-2, steps=200, lr=1e-2)
    rows = run(tiny_vlm, editor, edits=2, path=tmp_path / "a")
    assert editor.keys == 2
    probes = [r for r in rows if r["phase"] == "probe"]
    assert all(r["right"] for r in probes if r["group"] == "rel")
    editor._radii = [-1.0, -1.0]
    deferred = [r for r in run(tiny_vlm, editor, edits=2, path=tmp_path / "b") if r["phase"] == "probe"]
    assert all(r["answer"] == r["before"] for r in deferred)


def test_balancedit_reaches_the_same_questions_where_several_answers_are_sought(tiny_vlm):
    """As many beams as there are questions, or more: each row of a pass belongs to the question that it was made of."""
    editor, rows = BalancEdit(-2, steps=20, lr=1e-2), []

    class Sought(VLMModule):
        def predict_step(self, batch, batch_idx=0, dataloader_idx=0):
            answers = super().predict_step(batch, batch_idx, dataloader_idx)
            rows.append(list(editor._chosen))
            return answers

    for beams in (1, 3):
        module = Sought(tiny_vlm, max_new_tokens=2, generate_kwargs={"num_beams": beams} if beams > 1 else None)
        trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[editor])
        trainer.predict(module, datamodule=EditStream(Letters(2), batch_size=2))
    half = len(rows) // 2
    assert [[row for row in one for _ in range(3)] for one in rows[1:half]] == rows[half + 1 :]
    assert any(row is not None for one in rows for row in one)


def test_layers_that_are_not_there_are_named(tiny_vlm, tmp_path):
    with pytest.raises(ReasonEditError, match="has 2 language blocks, not a block 7"):
        run(tiny_vlm, GRACE(7), path=tmp_path / "a")
    with pytest.raises(ReasonEditError, match=r"has no layer 'model\.nothing'"):
        run(tiny_vlm, GRACE("model.nothing"), path=tmp_path / "a")
    with pytest.raises(ReasonEditError, match="needs a linear layer"):
        run(tiny_vlm, GRACE(tiny_vlm.language_layers[0]), path=tmp_path / "a")
    for name in ("lm_head", "model.multi_modal_projector.linear_1"):
        with pytest.raises(ReasonEditError, match=rf"inside the language blocks, .* '{name}' is in none"):
            run(tiny_vlm, FineTuning(name), path=tmp_path / "a")
    with pytest.raises(ReasonEditError, match="k must be 1 or more"):
        IKE(k=0)


def test_a_new_editor_is_a_short_class(tiny_vlm, tmp_path):
    class Parrot(Editor):
        """Says the last edit's answer to everything."""

        title = "Parrot"

        def write(self, edit: Edit, row, batch, pl_module):
            self.said = edit.answer

        def on_predict_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
            if hasattr(self, "said"):
                outputs[:] = [self.said] * len(outputs)
            super().on_predict_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)

    rows = run(tiny_vlm, Parrot(), edits=2, path=tmp_path / "a")
    assert at_once(rows) == 1
    assert {r["answer"] for r in rows if r["phase"] == "probe"} == {"w"}
