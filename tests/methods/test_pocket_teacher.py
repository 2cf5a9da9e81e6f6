"""The teacher's layer weights on a real teacher's attention: a mixture is neither uniform nor one layer."""

from __future__ import annotations

import random

import pytest
import torch

from molsaki.data.pocket import TEACHER
from molsaki.data.pocket.word_problems import SETTINGS, draw_story
from molsaki.encoding.encode import encode_teacher
from molsaki.encoding.prompts import TEACHER as PROMPT
from molsaki.encoding.prompts import PromptTemplate
from molsaki.methods import METHODS, AttentionPair, StudentShape
from molsaki.models.load import model_at, tokenizer_at
from molsaki.records import RowReport
from molsaki.spans.text import Text
from molsaki.spans.views import WORDS
from molsaki.teacher.read_attention import prepare_text, read_batch

LAYERS, TEXTS = 4, 12


@pytest.fixture(scope="module")
def attention_of_words() -> list[torch.Tensor]:
    """The pocket teacher's attention [1, L, S, K] on words, text by text."""
    model, tokenizer = model_at(str(TEACHER)).eval(), tokenizer_at(str(TEACHER))
    template, rng, report = PromptTemplate.parse(PROMPT), random.Random(1), RowReport()
    read = []
    for _ in range(TEXTS):
        story = draw_story(rng, SETTINGS["in-domain"])
        text = Text("x", story.text, story.rationale, "numbers")
        item = prepare_text(
            text, encode_teacher(tokenizer, template, text.question, text.rationale, 512), report, WORDS
        )
        assert item is not None
        read.append(read_batch(model, tokenizer, [item], [item.tokens.key_of_token], item.tokens.n_keys).attention)
    return read


def mean_weights(attention: list[torch.Tensor], **settings: object) -> torch.Tensor:
    """p^t [L], the mean over texts."""
    method = METHODS["molsaki"](METHODS["molsaki"].Settings(**settings), StudentShape((8,) * 2, LAYERS))
    weights = []
    for teacher_BLSK in attention:
        steps, keys = teacher_BLSK.shape[2:]
        pair = AttentionPair(
            teacher_BLSK=teacher_BLSK,
            student_BLSK=teacher_BLSK,
            values=(),
            token_mask_BT=torch.ones(1, 1),
            step_mask_BS=torch.ones(1, steps, dtype=torch.bool),
            key_mask_BK=torch.ones(1, keys, dtype=torch.bool),
            visible_BSK=torch.ones(1, steps, keys, dtype=torch.bool),
            step_tokens_BS=torch.ones(1, steps),
        )
        weights.append(method.teacher_weights(pair)[0])
    return torch.stack(weights).mean(0)


def test_over_words_the_layers_have_weights_that_do_something(attention_of_words: list[torch.Tensor]) -> None:
    by_rows = mean_weights(attention_of_words, rows="words")
    assert by_rows.max() > 0.4, "not uniform: 0.25 each"
    assert by_rows.max() < 0.9, "and not one layer"
    assert (by_rows > 0.02).all()


def test_over_words_the_papers_g_gives_no_mixture(attention_of_words: list[torch.Tensor]) -> None:
    """What `layer_change: rows` is for: as written all layers weigh the same, as run one has all the weight."""
    as_written = mean_weights(attention_of_words, rows="words", layer_change="mean")
    assert (as_written - 0.25).abs().max() < 0.02
    as_run = mean_weights(attention_of_words, rows="words", layer_change="sum")
    assert as_run.max() > 0.85
