"""Choose settings of methods on the validation problems, with the same budget for every method.

A study with `tune` is two studies. The first trains every combination of settings on seeds of its own and scores them
on the validation problems. The second has each method twice, with the settings of the study file and with the chosen
ones (or with these alone), on other seeds and on the test problems.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from molsaki.config.recipe import Recipe
from molsaki.counts import plural
from molsaki.errors import RecipeError
from molsaki.evaluation.crossed import mean_accuracy_over_sets
from molsaki.evaluation.intervals import MeanAccuracy
from molsaki.report.tables import Table, show_accuracy
from molsaki.study.correctness import RunAnswers
from molsaki.study.files import Cell, Study, check_study, study_recipe, with_settings

TUNED = "-tuned"
"""The end of the label of a method with the chosen settings."""


@dataclass(frozen=True, slots=True, eq=False)  # settings may be mappings, which have no hash
class Trial:
    """A combination of settings of a method.

    Attributes:
        method: the label of the method.
        number: its place among those of the method, from 1.
        settings: the values that are tried, by setting.
    """

    method: str
    number: int
    settings: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The label of its students."""
        return f"{self.method}-try{self.number}"

    def __str__(self) -> str:
        return ", ".join(f"{key} = {value}" for key, value in self.settings.items())


@dataclass(frozen=True, slots=True)
class Choice:
    """What was tried and chosen in one run.

    Attributes:
        recipe: the name of the recipe in the study.
        accuracies: of every trial on the validation problems.
        chosen: the trial of each method, by its label.
    """

    recipe: str
    accuracies: Mapping[Trial, MeanAccuracy]
    chosen: Mapping[str, Trial]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        tried = [
            {"method": trial.method, "settings": dict(trial.settings), "accuracy": found.mean, "seeds": found.seeds}
            | {"chosen": trial == self.chosen[trial.method]}
            for trial, found in self.accuracies.items()
        ]
        return {"recipe": self.recipe, "tried": tried}


def find_trials(study: Study) -> list[Trial]:
    """Every combination of settings that a study tries, method by method."""
    trials = []
    for label, values in study.tune.methods.items() if study.tune is not None else ():
        combinations = itertools.product(*values.values())
        trials += [Trial(label, i, dict(zip(values, some, strict=True))) for i, some in enumerate(combinations, 1)]
    return trials


def tuning_study(study: Study) -> Study:
    """The study that trains every trial, at the largest size, and scores it on the validation problems."""
    assert study.tune is not None
    specs = {method.label: method.model_dump() for method in study.methods}
    trials = find_trials(study)
    changes = {
        "seeds": study.tune.seeds,
        "methods": [{**with_settings(specs[trial.method], trial.settings), "label": trial.label} for trial in trials],
        "sizes": study.sizes and [max(study.sizes)],
        "set": [*study.set, "evaluation.on=validation", "evaluation.rows=null"],
        "baseline": trials[0].label,
        "compare": (),
        "curve": (),
        "published": {},
        "attention_rows": 0,
        "tune": None,
        "chosen_by": (),
    }
    return check_study({**study.model_dump(), **changes}, f"trials of {study.name}")


def chosen_settings(study: Study, chosen: Mapping[str, Trial]) -> dict[str, Mapping[str, Any]]:
    """The settings of one trial of each tuned method, by the label of the entries of `confirming_study`."""
    assert study.tune is not None
    sources = {label: label for label in study.tune.methods} | study.tune.follow
    suffix = TUNED if study.tune.untuned else ""
    return {label + suffix: chosen[source].settings for label, source in sources.items()}


def confirming_study(study: Study) -> Study:
    """The study that reports the methods with the chosen settings, and with its own ones if it wants both.

    Of both, the chosen ones have an entry `LABEL-tuned`, compared with the first one and with the baseline's.

    Raises:
        RecipeError: a method has the label of such an entry.
    """
    assert study.tune is not None
    if not study.tune.untuned:
        return check_study({**study.model_dump(), "tune": None}, study.name)
    tuned = [method for method in study.methods if method.label in {*study.tune.methods, *study.tune.follow}]
    entries = [{**method.model_dump(), "label": method.label + TUNED} for method in tuned]
    pairs = [(method.label + TUNED, method.label) for method in tuned]
    labels = {method.label for method in tuned}
    own = {label: study.baselines.get(label, study.baseline) for label in labels}  # what each is compared with
    baselines = {
        label + TUNED: (other if other in labels else study.baseline) + TUNED
        for label, other in own.items()
        if label != study.baseline
    }
    changes = {
        "methods": [*(method.model_dump() for method in study.methods), *entries],
        "baselines": study.baselines | baselines,
        "compare": [*study.compare, *pairs],
        "tune": None,
    }
    return check_study({**study.model_dump(), **changes}, f"{study.name} with chosen settings")


def check_trials(
    study: Study, file: Path, *, tiny: bool = False, settings: Sequence[str] = (), data: str | None = None
) -> None:
    """Check, before anything is trained, that every combination could be chosen.

    Args:
        study: the study with `tune`.
        file: its file.
        tiny: as in `study_recipe`.
        settings: likewise.
        data: likewise.

    Raises:
        RecipeError: the study that confirms would be invalid with some of them.
    """
    confirming = confirming_study(study)
    by_method: dict[str, list[Trial]] = {}
    for trial in find_trials(study):
        by_method.setdefault(trial.method, []).append(trial)
    for some in zip(*by_method.values(), strict=True):
        tuned = chosen_settings(study, {trial.method: trial for trial in some})
        for name in study.recipes:
            study_recipe(confirming, file, name, tiny=tiny, settings=settings, data=data, tuned=tuned)


def require_equal_steps(study: Study, name: str, recipe: Recipe) -> None:
    """Check that all methods of a tuning study train for the same number of steps in all their trials together.

    Raises:
        RecipeError: they do not.
    """
    by_label = {spec.label: spec for spec in recipe.methods}
    group, steps = tuning_study(study).groups[-1], dict.fromkeys(study.tune.methods if study.tune else (), 0)
    for trial in find_trials(study):
        steps[trial.method] += recipe.training_of(by_label[Cell(trial.label, group).label]).steps
    if len(set(steps.values())) > 1:
        shown = ", ".join(f"{label} {n}" for label, n in steps.items())
        raise RecipeError(
            f"Study {study.name!r}, recipe {name!r}: expected the same number of training steps for every method in "
            f"`tune`; got {shown}. A method with more of them would be tuned harder. Try the same steps for each. "
            "Nothing was run."
        )


def choose(study: Study, answers: Sequence[RunAnswers]) -> list[Choice] | None:
    """The best trial of each method by mean accuracy on the validation problems, for each run.

    Args:
        study: the study with `tune`.
        answers: of the runs of its `tuning_study`.

    Returns:
        None while students are missing: a choice among some of them would favour those that are trained first, and
        one by some of the seeds may not be that by all.
    """
    assert study.tune is not None
    group, trials = tuning_study(study).groups[-1], find_trials(study)
    choices = []
    for one in answers:
        seeds = sorted(one.planned)
        if any(one.seeds(Cell(trial.label, group)) != seeds for trial in trials):
            return None
        found = {
            trial: mean_accuracy_over_sets(one.tables(Cell(trial.label, group), one.tests[0], seeds))
            for trial in trials
        }
        chosen: dict[str, Trial] = {}
        for trial in trials:  # the first of equal ones stays
            if trial.method not in chosen or found[trial].mean > found[chosen[trial.method]].mean:
                chosen[trial.method] = trial
        choices.append(Choice(one.name, found, chosen))
    return choices


def tuning_table(choice: Choice) -> Table:
    """Every trial with its accuracy on the validation problems, and which was chosen."""
    rows = [
        [f"{trial.method}: {trial}", show_accuracy(found), "chosen" if trial == choice.chosen[trial.method] else ""]
        for trial, found in choice.accuracies.items()
    ]
    seeds = next(iter(choice.accuracies.values())).seeds
    count = len(choice.accuracies) // len(choice.chosen)
    caption = (
        f"{choice.recipe}: settings that were tried, {plural(count, 'combination')} for each method, by accuracy in % "
        f"on the validation problems (mean of {plural(seeds, 'seed')})"
    )
    return Table(caption, ["settings", "validation accuracy", ""], rows)
