"""What results.json says of a training: a collapsed router, and each term at the first and the last measured step."""

from __future__ import annotations

from molsaki.stages.results import training_facts

LOG = [
    {
        "step": 1,
        "loss": 2.0,
        "label_share": 0.75,
        "attention_share": 0.25,
        "label_gradient": 3.0,
        "attention_gradient": 1.0,
    },
    {"step": 20, "loss": 1.5, "label_share": 0.7, "attention_share": 0.3, "learning_rate": 0.1},
    {"step": 30, "eval_accuracy": 0.5},
    {
        "step": 40,
        "loss": 1.0,
        "label_share": 0.5,
        "attention_share": 0.5,
        "label_gradient": 2.0,
        "attention_gradient": None,
    },
    {"step": 60, "loss": 0.9, "label_share": 0.4, "attention_share": 0.6},
]


def test_terms_are_those_of_the_first_and_the_last_step_with_gradients():
    facts = training_facts({"history": LOG, "router_collapsed_at": 20})
    assert facts == {
        "router_collapsed_at": 20,
        "terms": [
            {"step": 1, "share": {"label": 0.75, "attention": 0.25}, "gradient": {"label": 3.0, "attention": 1.0}},
            {"step": 40, "share": {"label": 0.5, "attention": 0.5}, "gradient": {"label": 2.0, "attention": None}},
        ],
        "compared_tokens": {},
    }


def test_a_training_without_measured_gradients_has_its_shares():
    """Several processes measure none; the shares must not be lost with them."""
    history = [{k: v for k, v in line.items() if not k.endswith("_gradient")} for line in LOG]
    terms = training_facts({"history": history})["terms"]
    assert [line["step"] for line in terms] == [1, 60]
    assert [line["gradient"] for line in terms] == [{}, {}]


def test_one_line_is_no_first_and_last_one_and_no_metrics_are_no_lines():
    assert len(training_facts({"history": LOG[:1]})["terms"]) == 1
    assert training_facts({}) == {"router_collapsed_at": None, "terms": [], "compared_tokens": {}}


def test_compared_tokens_are_shares_of_each_kind_that_occurs():
    counts = {"numbers": {"compared": 3, "tokens": 4}, "words": {"compared": 0, "tokens": 2}}
    facts = training_facts({"compared_tokens": {**counts, "other": {"compared": 0, "tokens": 0}}})
    assert facts["compared_tokens"] == {"numbers": 0.75, "words": 0.0}


def test_a_resumed_training_whose_history_has_sorted_keys_has_its_terms_in_the_same_order():
    weights = {"label": 0.5, "rationale": 0.5, "attention": 1.0}
    line = {"step": 1, **{f"{name}_share": 0.1 for name in weights}, **{f"{name}_gradient": 1.0 for name in weights}}
    for history in ([line], [dict(sorted(line.items()))]):
        (term,) = training_facts({"history": history, "weights": weights})["terms"]
        assert list(term["share"]) == list(term["gradient"]) == list(weights)
