"""`molsaki run`, and each of its stages as a command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from molsaki.cli.options import Data, Out, Overwrite, RecipeName, Settings, Tiny, Workers, open_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from molsaki.cli.console import Console
    from molsaki.stages.signal_checks import SignalCheck
    from molsaki.stages.workspace import Workspace

Partial = Annotated[bool, typer.Option("--partial", help="Continue even if a server did not answer some questions.")]


def run(
    recipe: RecipeName,
    out: Out = None,
    tiny: Tiny = False,
    settings: Settings = None,
    data: Data = None,
    overwrite: Overwrite = False,
    workers: Workers = None,
    partial: Partial = False,
    report: Annotated[bool, typer.Option(help="Write report.html at the end.")] = True,
) -> None:
    """Run all stages of a recipe, from data to results and a report. Continues where it stopped."""
    from molsaki.cli.console import Console
    from molsaki.distributed import on_main_process

    console = Console()
    with open_run(recipe, out, tiny, settings, data, overwrite) as workspace:
        console.begin(workspace)
        _require_models(console, workspace)
        _generate(console, workspace, partial)
        _attend(console, workspace)
        _students(console, workspace, workers)
        _results(console, workspace)
        if report:
            from molsaki.report.build import write_report

            console.detail("reading the models' attention for the report")
            on_main_process(lambda: console.report(write_report(workspace)))
        on_main_process(lambda: console.costs(workspace))


def generate(
    recipe: RecipeName,
    out: Out = None,
    tiny: Tiny = False,
    settings: Settings = None,
    data: Data = None,
    overwrite: Overwrite = False,
    partial: Partial = False,
    show: Annotated[bool, typer.Option("--show", help="Only print the teacher's prompts; write nothing.")] = False,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Number of questions for --show.")] = 1,
) -> None:
    """Generate rationales that reach the right answer, and key words."""
    from molsaki.cli.console import Console

    if show:
        _show_prompts(recipe, tiny, settings, data, rows)
        return
    console = Console()
    with open_run(recipe, out, tiny, settings, data, overwrite) as workspace:
        console.begin(workspace)
        _generate(console, workspace, partial)


def attend(
    recipe: RecipeName,
    out: Out = None,
    tiny: Tiny = False,
    settings: Settings = None,
    data: Data = None,
    check: Annotated[bool, typer.Option("--check", help="Read nothing; verify every row that is stored.")] = False,
) -> None:
    """Read what methods compare of the teacher on the rationales: stepwise attention, next tokens."""
    from molsaki.cli.console import Console
    from molsaki.stages.signal_checks import check_signal
    from molsaki.stages.signals import signals_to_read

    console = Console()
    with open_run(recipe, out, tiny, settings, data, to_read=check) as workspace:
        console.begin(workspace)
        names = signals_to_read(workspace.recipe)
        if not check:
            _attend(console, workspace, names)
            return
        checks = [check_signal(workspace, name) for name in names]
        for result in checks:
            _show_check(console, result)
        if not all(result.ok for result in checks):
            raise typer.Exit(1)


def train(
    recipe: RecipeName,
    out: Out = None,
    tiny: Tiny = False,
    settings: Settings = None,
    data: Data = None,
    workers: Workers = None,
) -> None:
    """Train one student for each method and seed."""
    from molsaki.cli.console import Console

    console = Console()
    with open_run(recipe, out, tiny, settings, data) as workspace:
        console.begin(workspace)
        _students(console, workspace, workers, test=False)


def evaluate(
    recipe: RecipeName,
    out: Out = None,
    tiny: Tiny = False,
    settings: Settings = None,
    data: Data = None,
    workers: Workers = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Score this model instead: a directory, a hub name, or with --server the model's name there.",
        ),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            "--server", metavar="URL", help="The OpenAI-compatible server of --model, such as http://localhost:8000/v1."
        ),
    ] = None,
    protocol: Annotated[
        Literal["chat", "completions"] | None,
        typer.Option("--protocol", help="Of --server (default: chat for a chat prompt, else completions)."),
    ] = None,
    api_key_env: Annotated[
        str | None, typer.Option("--api-key-env", help="The environment variable with the server's key.")
    ] = None,
    server_settings: Annotated[
        list[str] | None,
        typer.Option(
            "--server-set",
            metavar="KEY=VALUE",
            help="A setting of --server, e.g. field_names.max_tokens=max_completion_tokens.",
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt", help="Of --model: a prompt of the recipe (teacher, reason, …) or a file (default: predict)."
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option("--samples", min=1, help="Completions per problem of --model, for pass@k (default 1)."),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option("--temperature", min=0, max=2, help="Of the samples of --model (default: 0, which is greedy)."),
    ] = None,
    max_new_tokens: Annotated[
        int | None,
        typer.Option("--max-new-tokens", min=1, help="Of a completion of --model, thinking included (default: 512)."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="The folder of the evaluation of --model (default: the model's name).")
    ] = None,
) -> None:
    """Test the students, or with --model any model, and print accuracies with intervals."""
    from molsaki.cli.console import Console

    console = Console()
    with open_run(recipe, out, tiny, settings, data) as workspace:
        console.begin(workspace)
        if model is None:
            _refuse_options(
                "--model",
                server=server,
                protocol=protocol,
                api_key_env=api_key_env,
                server_set=server_settings or None,
                name=name,
                prompt=prompt,
                samples=samples,
                temperature=temperature,
                max_new_tokens=max_new_tokens,
            )
            _students(console, workspace, workers, train=False)
            _results(console, workspace)
            return
        _refuse_options("no --model", workers=workers)
        _score_model(
            console,
            workspace,
            model=model,
            server=server,
            protocol=protocol,
            api_key_env=api_key_env,
            server_settings=server_settings or [],
            name=name,
            prompt=prompt or "predict",
            samples=samples or 1,
            temperature=temperature or 0.0,
            max_new_tokens=max_new_tokens or 512,
        )


def _refuse_options(needed: str, **given: object) -> None:
    """Raise `InputError` for options that would have no effect."""
    from molsaki.errors import InputError

    for name, value in given.items():
        if value is not None:
            option = "--" + name.replace("_", "-")
            raise InputError(f"Expected {needed} with {option}, which has no effect otherwise. Nothing was evaluated.")


def _score_model(
    console: Console,
    workspace: Workspace,
    *,
    model: str,
    server: str | None,
    protocol: Literal["chat", "completions"] | None,
    api_key_env: str | None,
    server_settings: list[str],
    name: str | None,
    prompt: str,
    samples: int,
    temperature: float,
    max_new_tokens: int,
) -> None:
    from molsaki.config.load import override, read_prompt
    from molsaki.config.model_spec import named_model
    from molsaki.distributed import on_main_process
    from molsaki.stages import pipeline
    from molsaki.stages.score_model import ScoreSettings, evaluation_name, score_model

    template = read_prompt(prompt, workspace.recipe)
    protocol = protocol or ("chat" if template.is_chat else "completions")
    spec = named_model(model, server, protocol, api_key_env, override({}, server_settings, "--server-set"))
    chosen = ScoreSettings(template, samples, temperature, max_new_tokens)
    folder = evaluation_name(model, name)
    console.data(on_main_process(lambda: pipeline.load_data(workspace)))
    with console.progress(f"answers of {model}") as progress:
        scores = on_main_process(lambda: score_model(workspace, folder, spec, chosen, progress))
    console.model_scores(model, scores)
    console.detail(f"completions and scores: {workspace.run.path('evaluations', folder)}")


def _require_models(console: Console, workspace: Workspace) -> None:
    from molsaki.distributed import on_main_process
    from molsaki.stages.models_first import require_models, roles_left

    for note in on_main_process(lambda: require_models(workspace.recipe, roles_left(workspace))):
        console.detail(f"warning: {note}")


def _generate(console: Console, workspace: Workspace, partial: bool) -> None:
    from molsaki.distributed import on_main_process
    from molsaki.errors import StageError
    from molsaki.stages import pipeline
    from molsaki.stages.kept import require_kept

    console.data(on_main_process(lambda: pipeline.load_data(workspace)))
    with console.progress("rationales") as progress:
        manifest = on_main_process(lambda: pipeline.generate(workspace, progress, partial=partial))
    console.rationales(manifest)
    if manifest["unanswered"] and not partial:
        raise StageError(
            f"Expected answers to all {manifest['problems']} questions; {manifest['unanswered']} have none, for the "
            "reasons above. Answers that arrived are kept. Run the same command again, or add --partial to continue "
            "without the others."
        )
    on_main_process(lambda: require_kept(workspace, manifest))


def _show_prompts(recipe: str, tiny: bool, settings: list[str] | None, data: str | None, rows: int) -> None:
    from molsaki.cli.terminal import visible
    from molsaki.stages import pipeline
    from molsaki.stages.check import prepare_recipe

    prepared = prepare_recipe(recipe, tiny=tiny, settings=settings or (), data=data)
    for row_id, name, prompt in pipeline.preview_prompts(prepared, rows):
        typer.secho(f"--- {visible(row_id)}, {name} ---", dim=True)
        typer.echo(visible(prompt))


def _attend(console: Console, workspace: Workspace, names: Sequence[str] | None = None) -> None:
    from molsaki.stages import pipeline

    with console.progress("teacher") as progress:
        read = pipeline.attend(workspace, progress, names=names)
    console.signals(read)


def _show_check(console: Console, check: SignalCheck) -> None:
    from molsaki.counts import plural

    store, problems = check.store, [*check.problems, *check.store.problems]
    result = plural(len(problems), "problem") if problems else "all rows are intact and match their texts"
    size = f"{plural(store.rows, 'row')} in {plural(store.shards, 'shard')}, {plural(store.bytes, 'byte')}"
    console.line(f"{check.title} store: {size}; {result}")
    for problem in problems:
        console.detail(f"- {problem}")
    for path in store.unfinished:
        console.detail(f"{path} has no index, because writing was interrupted; its rows will be read again")
    if check.waiting:
        console.detail(f"{plural(check.waiting, 'rationale')} not read yet; run `molsaki attend` to continue")


def _students(
    console: Console, workspace: Workspace, workers: int | None, *, train: bool = True, test: bool = True
) -> None:
    from molsaki.stages import pipeline

    with console.students(len(workspace.recipe.methods) * len(workspace.recipe.seeds)) as (on_done, print_line):
        pipeline.students(workspace, train=train, test=test, workers=workers, on_done=on_done, print_line=print_line)


def _results(console: Console, workspace: Workspace) -> None:
    from molsaki.distributed import on_main_process
    from molsaki.stages import pipeline

    with console.progress("untrained student and teacher") as progress:
        notes = on_main_process(lambda: pipeline.references(workspace, progress))
    for note in notes:
        console.detail(f"warning: {note}")
    on_main_process(lambda: console.results(workspace, pipeline.results(workspace)))
