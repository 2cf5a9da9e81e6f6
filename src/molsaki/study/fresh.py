"""Keep the problems that settings were chosen on out of the confirmation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from molsaki.config.recipe import Recipe
from molsaki.counts import plural
from molsaki.errors import RecipeError
from molsaki.stages.data import hash_question, scored_problems
from molsaki.stages.workspace import Workspace
from molsaki.study.files import Study, find_study, read_study, study_names, study_recipe
from molsaki.study.tuning import tuning_study

CHANCE = 0.01
"""Share of generated problems that may repeat earlier ones where each seed draws its own: such draws are independent,
and a short question comes up again now and then."""


def require_fresh_seeds(study: Study, file: Path) -> None:
    """Check that no seed of a study is one that its settings were chosen by.

    Raises:
        RecipeError: a seed is, or a study in `chosen_by` cannot be read.
    """
    for name in study.chosen_by:
        other, _ = _read(name, file)
        used = set(study.seeds) & {*other.seeds, *(other.tune.seeds if other.tune is not None else ())}
        if used:
            raise RecipeError(
                f"Study {study.name!r}: expected seeds that nothing was chosen by; {sorted(used)} are also those of "
                f"{name!r} (chosen_by). A confirmation on them would repeat the choice. Nothing was run; use others."
            )


def require_fresh_problems(
    study: Study, file: Path, runs: Mapping[str, Workspace], *, tiny: bool, settings: Sequence[str], data: str | None
) -> None:
    """Check that no problem that a study scores on is one that its settings were chosen on, by the problems' texts.

    Args:
        study: the study as its file has it, with `tune` and `chosen_by`.
        file: its file.
        runs: its runs by the names of their recipes, with their problems loaded.
        tiny: as in `study_recipe`; a tiny study is not checked.
        settings: likewise.
        data: likewise.

    Raises:
        RecipeError: some are.
    """
    if tiny:  # random models on a few problems, with one seed everywhere, confirm nothing
        return
    chosen_on: dict[str, set[str]] = {}
    for name in study.chosen_by:
        other, other_file = _read(name, file)
        for one in (other, *([tuning_study(other)] if other.tune is not None else ())):
            recipes = [study_recipe(one, other_file, key, tiny=False, data=data) for key in one.recipes]
            chosen_on.setdefault(f"study {name!r}", set()).update(*map(_texts, recipes))
    if study.tune is not None:
        own = tuning_study(study)
        recipes = [study_recipe(own, file, key, tiny=False, settings=settings, data=data) for key in own.recipes]
        chosen_on["this study's `tune`"] = set().union(*map(_texts, recipes))
    for name, workspace in runs.items() if chosen_on else ():
        for test in workspace.test_names:
            texts = [hash_question(problem) for problem in workspace.read_tests(test)]
            for source, used in chosen_on.items():
                repeated = sum(text in used for text in texts)
                if repeated > (CHANCE * len(texts) if workspace.is_drawn(test) else 0):
                    raise RecipeError(
                        f"Study {study.name!r}: expected test problems that nothing was chosen on; {repeated} of the "
                        f"{plural(len(texts), 'problem')} of {name}: {test} are among those that {source} scored "
                        "students on. A confirmation on them would repeat the choice. None of its students was "
                        "trained; choose on validation problems (evaluation.on=validation), or draw others "
                        "(data.draws=independent)."
                    )


def _texts(recipe: Recipe) -> set[str]:
    return {hash_question(problem) for problem in scored_problems(recipe)}


def _read(name: str, file: Path) -> tuple[Study, Path]:
    """A study in `chosen_by`: a shipped one, or a file, relative to the folder of the study's file."""
    return read_study(name if name in study_names() else str(file.parent / find_study(name)))
