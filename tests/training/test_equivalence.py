"""What must not change a step: accumulation, padding, checkpointing; and a slow reference for its loss."""

from __future__ import annotations

import pytest
import torch
from small_world import MODELS, make_examples
from torch.nn.functional import cross_entropy, log_softmax
from transformers import TrainerCallback

from molsaki.attention import read_attention
from molsaki.config.student_settings import TrainingSettings
from molsaki.methods import METHODS, terms_of
from molsaki.methods.layers import teacher_layer_weights
from molsaki.training import Collator, DistillationTrainer, make_method
from molsaki.training.arguments import training_arguments
from molsaki.training.model import DistillationModel

CASES = {
    "label-only": ("label-only", {}),
    "cot": ("cot", {}),
    "dss": ("dss", {"alpha": 0.3}),
    "mmi": ("mmi", {"alpha": 0.3, "beta": 0.7}),
    "mmi-sum": ("mmi", {"pooled": "sum", "detach_labels": False}),
    "single-layer": ("single-layer", {"beta": 0.7, "teacher_layers": (0, 2), "student_layers": (-1,)}),
    "molsaki": ("molsaki", {"alpha": 0.3, "beta": 0.7}),
    "visible": (
        "molsaki",
        {"normalisation": "visible", "gate": "per-layer", "router_norm": "after", "detach_values": True},
    ),
    "written": ("molsaki", {"preset": "as-written", "beta": 0.7}),
    "means": ("molsaki", {"step_pool": "mean", "keys": "question", "student_weights": "uniform"}),
    "learned": ("molsaki", {"teacher_weights": "learned"}),
    "heads": ("molsaki", {"heads": "each", "gate": "per-layer"}),
    "heads-learned": ("molsaki", {"heads": "each", "teacher_weights": "learned", "student_weights": "uniform"}),
    "one-sequence": ("molsaki", {"sequences": "one", "beta": 0.7}),
    "one-sequence-words": ("attention-map", {"sequences": "one", "teacher_layers": (0, 2), "student_layers": (-1,)}),
    "words": ("attention-map", {"beta": 0.7, "teacher_layers": (0, 2), "student_layers": (-1,)}),
    "words-mixed": ("molsaki", {"rows": "words", "beta": 0.7}),
    "words-former": ("molsaki-words", {"student_weights": "router", "normalisation": "softmax", "kl_temperature": 0.3}),
    "logits": ("logits", {"alpha": 0.3, "beta": 0.7}),
    "logits-hot": ("logits", {"temperature": 3.0}),
}
HEADS = 4
pytestmark = pytest.mark.parametrize(("name", "settings"), CASES.values(), ids=CASES)


@pytest.fixture
def examples(tmp_path, name, settings):
    """Eight examples, two of them without the teacher's attention."""
    terms = terms_of(name, settings)
    return make_examples(tmp_path / "attention", tasks=terms.tasks, choice=terms.attention)


def build(model, name, settings):
    student = MODELS[model]()
    method = make_method(METHODS[name], METHODS[name].Settings(**settings), student, teacher_layers=3)
    for index, parameter in enumerate(method.parameters()):  # a router away from its zeros
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(index))
    return student, method


def train_one_step(folder, examples, tokenizer, model, name, settings, batch, accumulation, **changes):
    student, method = build(model, name, settings)
    values = {"steps": 1, "batch_size": batch, "accumulation": accumulation, "learning_rate": 0.01, **changes}
    args = training_arguments(TrainingSettings(**values), folder, seed=3, show_progress=False, validating=False)
    keeper = KeepGradients()
    trainer = DistillationTrainer(student, method, args, examples, tokenizer, callbacks=[keeper])
    trainer.train()
    parameters = {key: parameter.detach().clone() for key, parameter in trainer.model.named_parameters()}
    return trainer.state.log_history[0], keeper.gradients, parameters


class KeepGradients(TrainerCallback):
    """Keeps the gradients that the optimizer is given, after clipping."""

    def on_pre_optimizer_step(self, args, state, control, model=None, **named):
        self.gradients = {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}


def assert_same(one, other, atol=2e-6):
    (log, gradients, parameters), (other_log, other_gradients, other_parameters) = one, other
    # The gradient of a single term is measured on a step's first batch, which accumulation changes.
    log, other_log = ({k: v for k, v in x.items() if not k.endswith("_gradient")} for x in (log, other_log))
    assert log.keys() == other_log.keys()
    for key, value in log.items():
        assert value == pytest.approx(other_log[key], rel=1e-5), key
    assert gradients.keys() == other_gradients.keys()
    for key, gradient in gradients.items():
        torch.testing.assert_close(gradient, other_gradients[key], atol=atol, rtol=1e-4, msg=key)
    for key, parameter in parameters.items():
        # Adam's first step is the sign of the gradient: what is zero to within rounding may go either way.
        clear = gradients[key].abs() > 1e-5 if key in gradients else torch.ones_like(parameter, dtype=torch.bool)
        torch.testing.assert_close(parameter[clear], other_parameters[key][clear], atol=1e-4, rtol=1e-3, msg=key)


@pytest.mark.parametrize("model", ["llama", "gpt2"])
def test_one_batch_or_four_accumulated_are_one_step(tmp_path, examples, tokenizer, model, name, settings):
    whole = train_one_step(tmp_path / "a", examples, tokenizer, model, name, settings, 8, 1)
    accumulated = train_one_step(tmp_path / "b", examples, tokenizer, model, name, settings, 2, 4)
    assert_same(whole, accumulated)


@pytest.mark.parametrize("model", ["llama", "gpt2"])
def test_checkpointing_changes_nothing(tmp_path, examples, tokenizer, model, name, settings):
    plain = train_one_step(tmp_path / "a", examples, tokenizer, model, name, settings, 8, 1)
    recomputed = train_one_step(tmp_path / "b", examples, tokenizer, model, name, settings, 8, 1, checkpointing=True)
    assert_same(plain, recomputed)


@pytest.mark.parametrize("model", ["llama", "gpt2"])
def test_alone_or_padded_in_a_batch_are_the_same(examples, tokenizer, model, name, settings):
    student, method = build(model, name, settings)
    collate = Collator(tokenizer, method.terms)
    distilled = DistillationModel(student, method)
    totals = collate(examples)["batch"].counts
    together = distilled(**collate(examples), totals=totals)
    alone = [distilled(**collate([example]), totals=totals) for example in examples]
    for key in ("loss", *(f"{term.name}_loss" for term in method.terms)):
        torch.testing.assert_close(together[key], sum(outputs[key] for outputs in alone), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("model", ["llama", "gpt2"])
def test_the_loss_is_that_of_a_slow_reference(examples, tokenizer, model, name, settings):
    student, method = build(model, name, settings)
    collate = Collator(tokenizer, method.terms)
    got = DistillationModel(student, method)(**collate(examples))
    alpha, beta = settings.get("alpha", 0.5), getattr(method.settings, "beta", None)
    means = {
        task: mean_cross_entropy(student, [example.sequences[task] for example in examples])
        for task in method.terms.tasks
    }
    if name == "label-only":
        expected = means["predict"]
    elif name == "cot" or settings.get("sequences") == "one":
        expected = means["reason"]
    else:
        expected = alpha * means["predict"] + (1 - alpha) * means["explain"]
    if name == "mmi":
        losses = [slow_mutual_loss(student, example, settings) for example in examples]
        expected = expected + beta * sum(losses) / len(losses)
        assert got["mutual_loss"].item() == pytest.approx((sum(losses) / len(losses)).item(), rel=1e-5)
    if name == "logits":
        losses = [loss for example in examples for loss in slow_divergences(student, example, settings)]
        expected = expected + beta * sum(losses) / len(losses)
        assert got["logits_loss"].item() == pytest.approx((sum(losses) / len(losses)).item(), rel=1e-5)
    if method.terms.attention:
        losses = [slow_attention_loss(student, method, e, settings) for e in examples if e.teacher_LSK is not None]
        assert len(losses) == 6
        expected = expected + beta * sum(losses) / len(losses)
        assert got["attention_loss"].item() == pytest.approx((sum(losses) / len(losses)).item(), rel=1e-4)
    assert got["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def mean_cross_entropy(student, sequences):
    """Mean over all completion tokens, one sequence at a time."""
    losses = []
    for sequence in sequences:
        ids = torch.tensor([sequence.input_ids])
        logits = student(ids).logits[0]
        places = range(sequence.completion_token, len(sequence.input_ids))
        losses += [cross_entropy(logits[place - 1], ids[0, place]) for place in places]
    return torch.stack(losses).mean()


def slow_divergences(student, example, settings):
    """τ²·KL of the coarsened next-token distributions at each position of one example, token by token in float64."""
    if example.agreed is None:
        return []
    temperature = settings.get("temperature", 1.0)
    explain, losses = example.sequences["explain"], []
    logits = student(torch.tensor([explain.input_ids])).logits[0].double()
    agreed = example.agreed
    for place, ids, log_probs in zip(agreed.positions_M, agreed.ids_MK, agreed.log_probs_MK.double(), strict=True):
        theirs = {int(i): p.exp() for i, p in zip(ids, log_probs, strict=True) if p > -torch.inf}
        mine = torch.softmax(logits[explain.completion_token + place - 1] / temperature, 0)
        cells = [(p, mine[i]) for i, p in theirs.items()]
        rest = sum(mine[i] for i in range(len(mine)) if i not in theirs)
        cells.append((1 - sum(theirs.values()), rest))
        losses.append(temperature**2 * sum(p * (p.log() - q.log()) for p, q in cells))
    for row, log_prob in zip(*span_rows(agreed), strict=True):
        mine = torch.ones((), dtype=torch.double)
        for place in (place for place in row if place >= 0):
            token = explain.completion_token + place
            mine = mine * torch.softmax(logits[token - 1] / temperature, 0)[explain.input_ids[token]]
        cells = [(log_prob.exp(), mine), (1 - log_prob.exp(), 1 - mine)]
        losses.append(temperature**2 * sum(p * (p.log() - q.log()) for p, q in cells))
    return losses


def span_rows(agreed):
    if agreed.spans is None:
        return [], []
    return agreed.spans.positions_WJ.tolist(), agreed.spans.log_probs_W.double()


def slow_mutual_loss(student, example, settings):
    """The MMI term for one example, position by position."""
    pooled = {}
    for task in ("predict", "explain"):
        sequence = example.sequences[task]
        logits = student(torch.tensor([sequence.input_ids])).logits[0]
        places = range(sequence.completion_token, len(sequence.input_ids))
        pooled[task] = torch.stack([torch.softmax(logits[place - 1], 0) for place in places]).max(0).values
    label, rationale = pooled["predict"], pooled["explain"]
    if settings.get("pooled") == "sum":
        return -((label / label.sum()) * (rationale / rationale.sum()).log()).sum()
    return cross_entropy(rationale[None], label[None])


def slow_attention_loss(student, method, example, settings):
    """Eq. 2 to 7 for one example, from the model's own attention matrices and value projections."""
    task = "reason" if settings.get("sequences") == "one" else "explain"
    ids = torch.tensor([example.sequences[task].input_ids])
    tokens = example.tokens
    student.set_attn_implementation("eager")
    weights = student(ids, output_attentions=True).attentions
    student.set_attn_implementation("sdpa")
    if settings.get("heads") == "each":
        weights = [layer[:, [head]] for layer in weights for head in range(HEADS)]
    student_LSK = torch.zeros(len(weights), tokens.n_steps, tokens.n_keys)
    for layer, weight in enumerate(weights):
        rows_ST = torch.tensor(tokens.step_of_token) == torch.arange(tokens.n_steps)[:, None]
        columns_KT = torch.tensor(tokens.key_of_token) == torch.arange(tokens.n_keys)[:, None]
        student_LSK[layer] = rows_ST.float() @ weight[0].mean(0) @ columns_KT.float().T
    if settings.get("step_pool") == "mean":
        for step in range(tokens.n_steps):
            student_LSK[:, step] /= tokens.step_of_token.count(step)
    if "teacher_layers" in settings:
        teacher_L, student_L = torch.zeros(3), torch.zeros(2)
        for weights_L, layers in ((teacher_L, settings["teacher_layers"]), (student_L, settings["student_layers"])):
            weights_L[list(layers)] = 1 / len(layers)
    else:
        teacher_L, student_L = slow_weights(student, method, example, ids, settings)
    teacher_SK = torch.einsum("lsk,l->sk", example.teacher_LSK, teacher_L)
    student_SK = torch.einsum("lsk,l->sk", student_LSK, student_L)
    rows = []
    for step in range(tokens.n_steps):
        if getattr(method.settings, "normalisation", "visible") == "visible":  # attention-map has no other
            last = max(i for i, s in enumerate(tokens.step_of_token) if s == step)
            seen = [k for k in range(tokens.n_keys) if tokens.key_of_token.index(k) <= last]
            if not seen:
                continue
            p, q = (x[step, seen] / x[step, seen].sum() for x in (teacher_SK, student_SK))
            rows.append((p * (p.log() - q.log())).sum())
        else:
            temperature = method.settings.kl_temperature
            p, q = (log_softmax(x[step] / temperature, 0) for x in (teacher_SK, student_SK))
            rows.append((p.exp() * (p - q)).sum())
    return torch.stack(rows).mean()


def slow_weights(student, method, example, ids, settings):
    """Both sides' layer weights."""
    tokens = example.tokens
    masks = torch.ones(1, tokens.n_steps, dtype=torch.bool), torch.ones(1, tokens.n_keys, dtype=torch.bool)
    attention_LSK, change = example.teacher_LSK, method.settings.layer_change
    if change == "rows":
        attention_LSK, change = attention_LSK / attention_LSK.sum(2, keepdim=True) / attention_LSK.shape[1], "sum"
    teacher_L = teacher_layer_weights(attention_LSK[None], *masks, 0.1, change=change)[0]
    if settings.get("teacher_weights") == "learned":
        teacher_L = torch.softmax(method.teacher_logits / 0.1, 0)
    if method.settings.student_weights == "uniform":
        items = 2 * HEADS if settings.get("heads") == "each" else 2
        return teacher_L, torch.full((items,), 1 / items)
    spans = torch.tensor([tokens.step_of_token]), torch.tensor([tokens.key_of_token])
    values = read_attention(student, ids, None, *spans, values=True).values
    return teacher_L, slow_router(method.router, values, method.settings)


def slow_router(router, values, settings):
    """Eq. 5 as run or as written, or with a gate for each layer."""
    pooled = []
    for layer in values:
        token_TD = layer[0]
        if settings.router_norm == "after":
            h = token_TD.sum(0)
            pooled.append(h / (h.square().mean() + 1e-6).sqrt())
        else:
            pooled.append((token_TD / (token_TD.square().mean(1, keepdim=True) + 1e-6).sqrt()).sum(0))
    if settings.gate == "shared":
        return torch.softmax(torch.stack(pooled) @ router.weight / 0.5, 0)
    if settings.gate == "per-layer":
        outputs = HEADS if settings.heads == "each" else 1
        gates = router.weight.split([size * outputs for size in router.value_sizes])
        logits = torch.cat([h @ gate.view(-1, outputs) for h, gate in zip(pooled, gates, strict=True)])
    else:
        logits = torch.cat(pooled) @ router.weight
    return torch.softmax((logits + router.bias) / 0.5, 0)
