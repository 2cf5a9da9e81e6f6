"""The part of `molsaki doctor` about training and testing students."""

from __future__ import annotations

from collections.abc import Iterator

from molsaki.attention import expected_layers
from molsaki.counts import plural, show_number
from molsaki.encoding.encode import require_offsets
from molsaki.encoding.student_chats import render_student
from molsaki.methods import Task
from molsaki.models.estimates import Machine, show_bytes, training_seconds, writing_seconds
from molsaki.stages.findings import (
    Finding,
    Level,
    ModelOutline,
    count_tokens,
    describe_layers,
    describe_lengths,
    estimate_cost,
)
from molsaki.stages.fit import PROCESS_BYTES, describe_choice, share_memory, student_plan, workers_that_fit
from molsaki.stages.workspace import GENERATE, TRAIN, Workspace
from molsaki.training import encode_examples


def check_students(workspace: Workspace, machine: Machine) -> Iterator[Finding]:
    """How many students there are, how long their sequences are, and what training and testing one costs."""
    recipe = workspace.recipe
    model = ModelOutline.load(recipe, recipe.student_of(recipe.seeds[0]))
    require_offsets(model.tokenizer)
    yield from _check_training(workspace, model, machine)
    yield from _check_evaluation(workspace, model, machine)


def _check_training(workspace: Workspace, model: ModelOutline, machine: Machine) -> Iterator[Finding]:
    recipe, settings = workspace.recipe, workspace.recipe.training
    context = model.context(settings.max_length)
    lengths, findings = _lengths(workspace, model, context)
    yield from findings
    students = len(recipe.methods) * len(recipe.seeds)
    yield Finding(
        "training", f"{plural(students, 'student')} of {show_number(model.outline.parameters / 1e6)} million parameters"
    )
    if recipe.student.lora is not None:
        share = f"{model.outline.trained:,} parameters of the adapter are trained; the student's own are frozen"
        yield Finding("training", share)
    if any(method.terms.attention for method in recipe.methods):
        yield from describe_layers("training", recipe, expected_layers(model.outline.config))
    # An example has one sequence per task; the estimate takes the longest for each.
    tasks = max(len(method.terms.tasks) for method in recipe.methods)
    sequences = settings.batch_size * tasks
    tokens = int(settings.steps * settings.accumulation * sequences * sum(lengths) / max(1, len(lengths)))
    on_gpu = machine.device != "cpu"
    room = machine.memory if on_gpu else share_memory(1).room
    plan = student_plan(recipe, model.outline, [min(n, context) for n in lengths], on_gpu=on_gpu, memory=room)
    memory = PROCESS_BYTES + plan.memory
    yield Finding("training", plan.describe(settings.batch_size))
    yield from estimate_cost(
        "training",
        machine,
        memory,
        lambda here: training_seconds(model.outline, tokens, here, checkpointing=plan.checkpointing),
        "per student",
    )
    if not on_gpu and students > 1:
        workers = min(students, workers_that_fit(memory))
        text = describe_choice(workers, memory, "estimated")
        yield Finding("training", f"{text}; together {show_bytes(workers * memory)}")


def _check_evaluation(workspace: Workspace, model: ModelOutline, machine: Machine) -> Iterator[Finding]:
    recipe = workspace.recipe
    tested = {name: len(workspace.read_tests(name, recipe.seeds[0])) for name in workspace.test_names}
    yield Finding("evaluation", f"each is tested on {', '.join(f'{n} {name}' for name, n in tested.items())}")
    prompts = {method.terms.answers_with for method in recipe.methods}
    bound = max(recipe.evaluation.bound_for(workspace.template(prompt)) for prompt in prompts)
    rows, batch_size = sum(tested.values()), recipe.evaluation.batch_size
    yield from estimate_cost(
        "evaluation",
        machine,
        0,
        lambda here: writing_seconds(model.outline, rows, batch_size, bound, here),
        "per student",
    )


def _lengths(workspace: Workspace, model: ModelOutline, context: int) -> tuple[list[int], list[Finding]]:
    """The tokens of the longest sequence of each example, and how many are cut. Rationales may not exist yet."""
    if workspace.run.stage_done(GENERATE) is None:
        longest = workspace.recipe.rationales.max_new_tokens
        prompt = render_student(model.tokenizer, workspace.template("explain"))
        prompts = [prompt.prompt(problem.text) for problem in workspace.read_problems(TRAIN)]
        lengths = [length + longest for length in count_tokens(model.tokenizer, prompts, prompt.special_tokens)]
        over = sum(length > context for length in lengths)
        text = f"up to {over} of {len(lengths)} rationales of {longest} tokens would be cut; {context} tokens fit"
        return lengths, [Finding("training", text, "warning" if over else "plain")]
    problems, texts = workspace.read_texts(TRAIN)
    used = {task for method in workspace.recipe.methods for task in method.terms.tasks}
    tasks: set[Task] = {"predict", "explain", *used}
    templates = {task: workspace.template(task) for task in tasks}
    examples, report = encode_examples(model.tokenizer, problems, texts, templates, context)
    learned = [[one.sequences[task] for task in used if task in one.sequences] for one in examples]
    lengths = [max(len(text.input_ids) for text in some) for some in learned]
    cut = sum(any(text.cut_tokens for text in some) for some in learned)
    level: Level = "warning" if cut else "plain"
    share = 100 * cut / max(1, len(examples))
    return lengths, [
        Finding("training", f"{plural(len(examples), 'example')} of {describe_lengths(lengths)}; {context} tokens fit"),
        Finding("training", f"{plural(cut, 'rationale')} cut to the context length ({share:.1f} %)", level),
        *(Finding("training", f"{n} {reason}", "warning") for reason, n in report.skipped.items()),
    ]
