"""The order of training: every example once an epoch, little padding, the same again from the seed and the epoch."""

from __future__ import annotations

import random
from itertools import chain, combinations, pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from small_world import make_examples, make_gpt2, make_tokenizer, train
from torch.utils.data import BatchSampler
from transformers import TrainingArguments

from molsaki.encoding.encode import EncodedText
from molsaki.methods import METHODS, terms_of
from molsaki.training import Collator, DistillationTrainer, Example, make_method
from molsaki.training.order import EvenBatches, ShuffledSteps, even_cuts, plan_passes


class Tokenizer:
    pad_token_id = 0


def text(length, completion=3):
    return EncodedText((7,) * length, ((0, 0),) * length, length - completion, 0, 0, 0)


def make(count, longer):
    rng = random.Random(5)
    lengths = [rng.randint(40, 160) for _ in range(count)]
    return [Example(str(i), {"predict": text(n), "explain": text(n + longer)}) for i, n in enumerate(lengths)]


def batches(examples):
    """Of sixteen examples, of their first epoch."""
    order = ShuffledSteps([len(e.sequences["explain"].input_ids) for e in examples], 16, seed=0)
    return list(BatchSampler(order, 16, drop_last=False))


@given(st.lists(st.integers(1, 300), max_size=200), st.integers(1, 20), st.integers(0, 5), st.integers(0, 3))
def test_every_example_once_and_the_same_again(lengths, batch_size, seed, epoch):
    order, again = ShuffledSteps(lengths, batch_size, seed), ShuffledSteps(lengths, batch_size, seed)
    order.set_epoch(epoch)
    again.set_epoch(epoch)
    assert sorted(order) == list(range(len(lengths)))
    assert list(order) == list(again)


def test_all_methods_of_a_seed_have_one_order(tmp_path):
    """Methods with other tasks have other sequences, whose lengths must not change the order of the problems."""
    orders = []
    for name in ("label-only", "dss", "mmi", "molsaki", "cot"):
        tasks = ("predict", "explain", *(("reason",) if name == "cot" else ()))
        examples = make_examples(tmp_path / name, 24, without=(), tasks=tasks)
        method = make_method(METHODS[name], METHODS[name].Settings(), make_gpt2())
        args = TrainingArguments(
            str(tmp_path), max_steps=1, per_device_train_batch_size=4, seed=3, use_cpu=True, report_to="none"
        )
        trainer = DistillationTrainer(make_gpt2(), method, args, examples, processing_class=make_tokenizer())
        orders.append([])
        for epoch in range(2):
            trainer._order.set_epoch(epoch)
            orders[-1] += [examples[index].problem_id for index in trainer._order]
    assert all(order == orders[0] for order in orders)
    assert orders[0][:24] != orders[0][24:]


def test_a_step_is_a_random_sample_sorted_by_length():
    """Steps of one length have problems of one kind, from which students learn less."""
    lengths = [10 * (i % 10) for i in range(400)]
    order = list(ShuffledSteps(lengths, 16, seed=1))
    steps = [[lengths[i] for i in order[start : start + 16]] for start in range(0, 400, 16)]
    assert all(step == sorted(step) for step in steps)
    assert all(len(set(step)) >= 5 for step in steps)


def test_another_order_for_every_epoch_and_seed():
    lengths = [10 + i % 7 for i in range(200)]
    orders = []
    for seed, epoch in ((1, 0), (1, 1), (2, 0)):
        order = ShuffledSteps(lengths, 8, seed)
        order.set_epoch(epoch)
        orders.append(list(order))
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]


@given(st.lists(st.integers(1, 300), min_size=1, max_size=9), st.data())
def test_no_other_cut_has_a_smaller_largest_batch(lengths, data):
    count = data.draw(st.integers(1, len(lengths)))

    def largest(cuts):
        return max((end - first) * max(lengths[first:end]) for first, end in pairwise(cuts))

    cuts = even_cuts(lengths, count)
    ways = [(0, *inner, len(lengths)) for inner in combinations(range(1, len(lengths)), count - 1)]
    assert tuple(cuts) in ways
    assert largest(cuts) == min(map(largest, ways))


@given(
    st.lists(st.integers(1, 300), max_size=100),
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(0, 3),
)
def test_even_batches_have_the_examples_of_each_step(lengths, batch_size, accumulation, epoch):
    order = ShuffledSteps(lengths, batch_size * accumulation, seed=2)
    order.set_epoch(epoch)
    batches, equal = (
        list(EvenBatches(order, batch_size, lengths)),
        list(BatchSampler(order, batch_size, drop_last=False)),
    )
    assert len(batches) == len(EvenBatches(order, batch_size, lengths)) == len(equal)
    for start in range(0, len(batches), accumulation):
        step = slice(start, start + accumulation)
        assert list(chain(*batches[step])) == list(chain(*equal[step]))


def loader_of(tmp_path, examples, method="dss", **more):
    args = TrainingArguments(
        str(tmp_path), per_device_train_batch_size=4, seed=3, use_cpu=True, report_to="none", num_train_epochs=1, **more
    )
    made = make_method(METHODS[method], METHODS[method].Settings(), make_gpt2())
    trainer = DistillationTrainer(make_gpt2(), made, args, examples, processing_class=make_tokenizer())
    return trainer.get_train_dataloader()


def batches_of(tmp_path, examples, **more):
    return [inputs["batch"].passes[0].input_ids_RT.shape for inputs in loader_of(tmp_path, examples, **more)]


def test_accumulated_batches_have_about_as_many_tokens_each(tmp_path):
    examples = make(64, longer=0)
    shapes = batches_of(tmp_path, examples, gradient_accumulation_steps=16)
    tokens = [rows * length for rows, length in shapes]
    assert sum(rows for rows, _ in shapes) == 2 * 64
    assert len(tokens) == 16
    assert max(tokens) < 0.8 * 2 * 4 * max(length for _, length in shapes)  # two tasks, batches of four
    assert max(tokens) < 1.4 * sum(tokens) / 16


def test_batches_are_even_in_the_sequences_that_a_method_trains(tmp_path):
    """Short labels of long rationales: a batch of the labels alone must not be cut by the rationales."""
    rng = random.Random(3)
    examples = [
        Example(str(i), {"predict": text(rng.randint(8, 60)), "explain": text(rng.randint(100, 400))})
        for i in range(64)
    ]
    shapes = batches_of(tmp_path, examples, method="label-only", gradient_accumulation_steps=16)
    rows = [rows for rows, _ in shapes]
    tokens = [rows * length for rows, length in shapes]
    (equal,) = {tuple(rows * length for rows, length in equal_batches(examples))}
    assert sum(rows) == 64
    assert max(tokens) <= max(equal)


def equal_batches(examples):
    order = list(ShuffledSteps([len(e.sequences["explain"].input_ids) for e in examples], 64, seed=3))
    for start in range(0, 64, 4):
        yield 4, max(len(examples[i].sequences["predict"].input_ids) for i in order[start : start + 4])


def test_the_arguments_of_the_data_loader_are_kept(tmp_path):
    more = {"dataloader_num_workers": 1, "dataloader_multiprocessing_context": "spawn", "dataloader_in_order": False}
    loaders = [loader_of(tmp_path, make(8, longer=0), gradient_accumulation_steps=n, **more) for n in (1, 2)]
    for name in ("multiprocessing_context", "in_order", "num_workers", "prefetch_factor", "pin_memory"):
        one, other = (getattr(loader, name) for loader in loaders)
        assert type(one) is type(other) if name == "multiprocessing_context" else one == other
    assert all(loader.worker_init_fn is not None for loader in loaders)


def test_batches_that_are_not_accumulated_have_the_size_that_was_asked_for(tmp_path):
    assert {rows for rows, _ in batches_of(tmp_path, make(64, longer=0))} == {8}


def test_a_last_batch_is_dropped_where_that_is_asked_for(tmp_path):
    shapes = batches_of(tmp_path, make(30, longer=0), gradient_accumulation_steps=2, dataloader_drop_last=True)
    assert [rows for rows, _ in shapes] == [8] * 7


def test_labels_and_rationales_run_apart_where_one_pass_would_be_padding():
    examples = make(400, longer=60)
    plan = plan_passes(examples, ("predict", "explain"), batches(examples))
    assert plan.separate
    assert not plan_passes(examples, ("predict",), batches(examples)).separate


def test_one_pass_where_both_tasks_are_about_as_long():
    examples = make(400, longer=4)
    plan = plan_passes(examples, ("predict", "explain"), batches(examples))
    assert not plan.separate


def test_the_padding_that_is_told_is_that_of_the_batches():
    examples = make(70, longer=60)
    plan = plan_passes(examples, ("predict", "explain"), batches(examples))
    collate = Collator(Tokenizer(), terms_of("dss", {}), plan.separate)
    collated = [collate([examples[index] for index in batch])["batch"] for batch in batches(examples)]
    passes = [one.input_ids_RT for batch in collated for one in batch.passes]
    real, run = sum(int((ids == 7).sum()) for ids in passes), sum(ids.numel() for ids in passes)
    assert plan.padding == 1 - real / run


def test_a_step_has_the_same_examples_however_it_is_divided(tmp_path, examples):
    train(tmp_path / "whole", examples, model="llama", steps=3, batch_size=4, accumulation=1)
    train(tmp_path / "divided", examples, model="llama", steps=3, batch_size=2, accumulation=2)
    whole, divided = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "divided"))
    for name, value in whole.items():
        torch.testing.assert_close(divided[name], value, atol=2e-4, rtol=1e-3, msg=name)
