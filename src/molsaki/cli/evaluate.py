"""`molsaki evaluate`: test the students of a run, or score any model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from molsaki.cli.options import Data, Out, RecipeName, Settings, Tiny, Workers, open_run
from molsaki.cli.stages import show_results, train_and_test

if TYPE_CHECKING:
    from molsaki.cli.console import Console
    from molsaki.stages.workspace import Workspace


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
            "--prompt",
            help="Of --model: a prompt of the recipe (teacher, reason, …) or a file (default: that of its method for a "
            "student of the run, else predict).",
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
            train_and_test(console, workspace, workers, train=False)
            show_results(console, workspace)
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
            prompt=prompt or _prompt_of(workspace, model),
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


def _prompt_of(workspace: Workspace, model: str) -> str:
    """The name of the prompt that a student of the run is tested with; `predict` for another model."""
    found = Path(model).resolve()
    for method in workspace.recipe.methods:
        if any(workspace.student(method.label, seed).resolve() == found for seed in workspace.recipe.seeds):
            return method.terms.answers_with
    return "predict"


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
    if template.is_chat:  # which is asked on the day on which the run was created
        template = replace(template, date=workspace.run.date)
    protocol = protocol or ("chat" if template.is_chat else "completions")
    spec = named_model(model, server, protocol, api_key_env, override({}, server_settings, "--server-set"))
    chosen = ScoreSettings(template, samples, temperature, max_new_tokens)
    folder = evaluation_name(model, name)
    console.data(on_main_process(lambda: pipeline.load_data(workspace)))
    with console.progress(f"answers of {model}") as progress:
        scores = on_main_process(lambda: score_model(workspace, folder, spec, chosen, progress))
    console.model_scores(model, scores)
    console.detail(f"completions and scores: {workspace.run.path('evaluations', folder)}")
