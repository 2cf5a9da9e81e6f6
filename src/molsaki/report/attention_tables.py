"""What the report says about attention, in tables and sentences: its shift onto the keys, and agreement."""

from __future__ import annotations

from molsaki.counts import plural
from molsaki.report.attention_figures import Attention
from molsaki.report.tables import Table, show_estimate, show_interval, show_points


def attention_tables(attention: Attention) -> list[Table]:
    """The shift, the profile of layers, and the agreement with the teacher; tables without rows are left out."""
    tables = [_shift_table(attention), _layer_table(attention), _agreement_table(attention)]
    return [table for table in tables if table.rows]


def _shift_table(attention: Attention) -> Table:
    sets = list(dict.fromkeys(name for _, name in attention.shifts))
    rows = []
    for model in dict.fromkeys(model for model, _ in attention.shifts):
        shifts = [attention.shifts.get((model, name)) for name in sets]
        rows.append([model, *(show_points(None if shift is None else shift.change) for shift in shifts)])
    caption = (
        "Does attention move onto the keys? Change from the first sentence of the rationale to the last, above "
        "shuffled keys, in percentage points of attention [95 % interval] (problems)"
    )
    return Table(caption, ["model", *sets], rows)


def _layer_table(attention: Attention) -> Table:
    rows = [
        [f"{model}, layer {layer.layer + 1}", show_points(layer.above), show_points(layer.change)]
        for model, profile in attention.profiles.items()
        for layer in profile
    ]
    caption = (
        f"The same for each layer on {attention.first}, in percentage points of attention [95 % interval] (problems)"
    )
    return Table(caption, ["model and layer", "above shuffled keys", "change from first to last sentence"], rows)


def _agreement_table(attention: Attention) -> Table:
    rows = [
        [
            model,
            name,
            show_estimate(one.divergence, 3),
            show_estimate(one.rank, 2),
            f"{100 * one.same_top.mean:.0f} {show_interval(one.same_top.interval, 0, 100)}",
            f"{100 * one.chance:.0f}",
            str(one.problems),
        ]
        for (model, name), one in attention.agreements.items()
    ]
    head = ["model", "set", "divergence, bits", "rank correlation", "same top key, %", "by chance, %", "problems"]
    return Table("Does it attend to the same keys as the teacher? Mean of layers [95 % interval]", head, rows)


def shift_sentences(attention: Attention) -> list[str]:
    """The shift on the first set in words, one sentence for each model."""
    sentences = []
    for (model, name), shift in attention.shifts.items():
        if name != attention.first or shift.change is None:
            continue
        interval = shift.change.interval
        if interval.low > 0:
            direction = "attention moves onto the keys"
        elif interval.high < 0:
            direction = "attention moves away from the keys"
        else:
            direction = "no shift of attention onto the keys or away from them is shown"
        problems = plural(shift.change.problems, f"{name} problem")
        sentences.append(f"{model}: {direction}: {shift.change} above shuffled keys ({problems}).")
    return sentences
