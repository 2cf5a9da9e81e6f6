"""The report's table of terms and its sentences on collapsed routers, from made-up metrics."""

from __future__ import annotations

from types import SimpleNamespace

from molsaki.report.run_tables import collapsed_routers, term_table


def made_run(*labels):
    methods = [SimpleNamespace(label=label) for label in labels]
    return SimpleNamespace(recipe=SimpleNamespace(methods=methods))


def line(step, share, gradient):
    return {
        "step": step,
        "label_share": 1 - share,
        "attention_share": share,
        "label_gradient": 4.0,
        "attention_gradient": gradient,
    }


def test_a_terms_share_and_gradient_are_means_over_seeds():
    metrics = {
        ("molsaki", 1): {"history": [line(1, 0.1, 1.0), line(60, 0.2, 0.5)]},
        ("molsaki", 2): {"history": [line(1, 0.3, 3.0), line(60, 0.4, None)]},
    }
    table = term_table(made_run("dss", "molsaki"), metrics)
    assert table.rows == [
        ["molsaki: label", "1 → 60", "80.0% → 70.0%", "4 → 4"],
        ["molsaki: attention", "1 → 60", "20.0% → 30.0%", "2 → 0.5"],
    ]
    assert term_table(made_run("dss"), {}) is None


def test_a_collapsed_router_is_named_once_with_its_students():
    metrics = {
        ("molsaki", 1): {"router_collapsed_at": None},
        ("as-written", 1): {"router_collapsed_at": 40},
        ("as-written", 2): {"router_collapsed_at": 20},
        ("as-written", 3): {"router_collapsed_at": None},
    }
    (sentence,) = collapsed_routers(made_run("molsaki", "as-written"), metrics)
    assert "as-written: in 2 of 3 students" in sentence
    assert "steps 20 to 40" in sentence
