r"""Traces in the shapes of DeepSeek-R1, QwQ and Qwen3, written by hand, and what a reader marks in each.

Each has what such traces have and short answers have not: corrections, several candidate answers, answers that are
restated, displays in LaTeX, headings and lists, thinking that is never closed.
"""

from __future__ import annotations

from dataclasses import dataclass

from molsaki.spans.steps import StepRule
from molsaki.teacher.filter import Learn


@dataclass(frozen=True, slots=True)
class Trace:
    """A completion, and what a reader marks in it.

    Attributes:
        name: the shape.
        gold: the right answer; with choices the text of one.
        text: what the model wrote.
        steps: the text that is kept, cut into steps.
        keys: the numbers of the kept text in order, separated by spaces.
        reason: the filter's.
        learn: what is learnt.
        rule: what a step is.
        choices: of the question.
    """

    name: str
    gold: str
    text: str
    steps: tuple[str, ...] = ()
    keys: str = ""
    reason: str = "right"
    learn: Learn = "summary"
    rule: StepRule = "sentences"
    choices: tuple[str, ...] = ()


QUESTION = "A crate has 12 trays of 8 plums. Nine plums are bad. How many are good?"
DIM = ("gold", "iron", "lead")

TRACES = (
    Trace(
        "R1: headings, bold results and a display at the end",
        "87",
        "<think>\nOkay, so 12 trays with 8 plums each. That's 12*8 = 96. Wait, nine are bad, not 9 trays. So 96 - 9 = "
        "87. Let me double-check: 12*8 is 96, yes. So the answer is 87.\n</think>\n\n"
        "To find the number of **good plums**, we subtract the bad ones from all.\n\n"
        "1. **All plums**:  \n   \\[\n   12 \\times 8 = 96\n   \\]\n\n"
        "2. **Good plums**:  \n   \\[\n   96 - 9 = 87\n   \\]\n\n"
        "**Final Answer**\n\n\\[\n\\boxed{87}\n\\]",
        (
            "To find the number of **good plums**, we subtract the bad ones from all.",
            "1. **All plums**:  \n   \\[",
            "12 \\times 8 = 96\n   \\]",
            "2. **Good plums**:  \n   \\[",
            "96 - 9 = 87\n   \\]",
        ),
        "1 12 8 96 2 96 9 87",
    ),
    Trace(
        "R1: the thinking is learnt, with its corrections",
        "87",
        "<think>\nOkay, 12 trays of 8. That's 12 + 8 = 20 plums? Hmm, no. It should be 12 × 8 = 96.\n\n"
        "Wait, but nine are bad. So 96 - 9 = 87.\n</think>\n\nThere are \\(\\boxed{87}\\) good plums.",
        (
            "Okay, 12 trays of 8.",
            "That's 12 + 8 = 20 plums?",
            "Hmm, no.",
            "It should be 12 × 8 = 96.",
            "Wait, but nine are bad.",
            "So 96 - 9 = 87.",
        ),
        "12 8 12 8 20 12 8 96 96 9 87",
        learn="thinking",
    ),
    Trace(
        "QwQ: no tags, several candidates, the last one counts",
        "87",
        "Let's see. 12 trays of 8 plums. The answer is 96. Hmm, wait. Nine plums are bad, so I should take them away."
        "\n\n96 - 9 = 87.\n\n**Final Answer**\n\n\\[ \\boxed{87} \\]",
        reason="ambiguous",
    ),
    Trace(
        "QwQ: candidates that are no answer sentences",
        "87",
        "Let me think. Maybe it's 96? 12 * 8 = 96. Alternatively, I could count the good ones: 96 - 9 = 87.\n\n"
        "So I'm confident it's 87.\n\n**Final Answer**\n\n\\[ \\boxed{87} \\]",
        (
            "Let me think.",
            "Maybe it's 96?",
            "12 * 8 = 96.",
            "Alternatively, I could count the good ones: 96 - 9 = 87.",
            "So I'm confident it's 87.",
        ),
        "96 12 8 96 96 9 87 87",
    ),
    Trace(
        "Qwen3: empty thinking, a list, the answer restated",
        "87",
        "<think>\n\n</think>\n\nWe know:\n\n- 12 trays, 8 plums each\n- 9 bad plums\n\n### Step 1: All plums\n\n$$\n"
        "12 \\times 8 = 96\n$$\n\n### Step 2: Good plums\n\n$$\n96 - 9 = 87\n$$\n\n### ✅ Final Answer:\n\n$$\n"
        "\\boxed{87}\n$$\n\nSo there are 87 good plums.",
        (
            "We know:",
            "- 12 trays, 8 plums each\n- 9 bad plums",
            "### Step 1: All plums",
            "$$\n12 \\times 8 = 96\n$$",
            "### Step 2: Good plums",
            "$$\n96 - 9 = 87\n$$",
        ),
        "12 8 9 1 12 8 96 2 96 9 87",
        rule="paragraphs",
    ),
    Trace(
        "Qwen3: both parts in paragraphs",
        "87",
        "<think>\nOkay, let's see.\nThere are 12 trays of 8.\n\nSo 96 minus 9 is 87.\n</think>\n\n"
        "12 × 8 = 96 plums, of which 9 are bad.\n\n**Answer:** 87 plums",
        (
            "Okay, let's see.\nThere are 12 trays of 8.",
            "So 96 minus 9 is 87.",
            "12 × 8 = 96 plums, of which 9 are bad.",
        ),
        "12 8 96 9 87 12 8 96 9",
        learn="both",
        rule="paragraphs",
    ),
    Trace(
        "R1: thinking that is never closed",
        "87",
        "<think>\nOkay, 12 * 8 = 96. So the answer is 87. Wait, let me check that again. 96 - 9",
        reason="cut off",
    ),
    Trace(
        "R1 distilled: the template wrote the opening tag",
        "87",
        "Alright, 12 trays, so 12 * 8 = 96.\n\nBut hold on, 9 are bad: 87.\n</think>\n\n**Solution:**\n\n"
        "All: \\( 12 \\times 8 = 96 \\). Good: \\( 96 - 9 = 87 \\).\n\n**Answer:** \\(\\boxed{87}\\)",
        ("**Solution:**", "All: \\( 12 \\times 8 = 96 \\).", "Good: \\( 96 - 9 = 87 \\)."),
        "12 8 96 96 9 87",
    ),
    Trace(
        "QwQ: a table of cases, the result boxed in a sentence that goes on",
        "87",
        "<think>12*8=96, minus 9: 87.</think>\n| part | plums |\n| --- | --- |\n| all | 96 |\n| bad | 9 |\n\n"
        "Subtracting, $96 - 9 = 87$. Therefore, the number of good plums is $\\boxed{87}$, as computed above.",
        ("| part | plums |\n| --- | --- |", "| all | 96 |", "| bad | 9 |", "Subtracting, $96 - 9 = 87$."),
        "96 9 96 9 87",
        rule="sentences",
    ),
    Trace(
        "Qwen3: a choice after weighing all of them",
        "lead",
        "<think>\nGold is A. Gold is too soft? Iron, B, rusts. Hmm, so C.\n</think>\n\n"
        "- **A. gold**: it is precious, so no.\n- **B. iron**: it rusts.\n- **C. lead**: it is dense and cheap.\n\n"
        "Therefore, the correct answer is:\n\n**C. lead**",
        (
            "- **A. gold**: it is precious, so no.",
            "- **B. iron**: it rusts.",
            "- **C. lead**: it is dense and cheap.",
        ),
        "",
        choices=DIM,
    ),
    Trace(
        "R1: the answer first, then a long explanation and the box again",
        "87",
        "<think>\n96 - 9 = 87\n</think>\n\n**Answer: 87**\n\n**Explanation:** There are 12 × 8 = 96 plums. Without "
        "the 9 bad ones, 87 are left.\n\n\\boxed{87}",
        (
            "**Explanation:** There are 12 × 8 = 96 plums.",
            "Without the 9 bad ones, 87 are left.",
        ),
        "12 8 96 9 87",
    ),
    Trace(
        "QwQ: a summary that is the answer alone",
        "87",
        "<think>\nFirst, 12 × 8 = 96.\nThen 96 − 9 = 87.\n</think>\n\n\\boxed{87}",
        ("First, 12 × 8 = 96.", "Then 96 − 9 = 87."),
        "12 8 96 96 9 87",
        rule="lines",
    ),
)
