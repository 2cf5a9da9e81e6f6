"""Students trained in a chat: what is left out is counted, the end of the turn is learnt, and a test stops there."""

from __future__ import annotations

import pytest
from helpers.chat_tokenizers import DEFAULT_SYSTEM, END_TURN, TRIMS, chat_tokenizer
from helpers.small_world import TEMPLATES, make_llama, make_problems, make_store, make_texts, train

from molsaki.encoding.prompts import CHATS, PromptTemplate
from molsaki.encoding.student_chats import QUESTION_CHANGED
from molsaki.errors import InputError, TokenizerError
from molsaki.evaluation.score import predict
from molsaki.models.decode import decode_batches
from molsaki.records import Problem
from molsaki.spans.text import Text
from molsaki.training import encode_examples, encode_labels

CHAT = {task: PromptTemplate.parse(text) for task, text in CHATS.items() if task in TEMPLATES}


def test_rows_that_the_chat_template_changes_are_left_out_and_counted():
    problems = [Problem("a", "1 + 1? ", "2", "2", rationale="2."), Problem("b", "1 + 2?", "3", "3", rationale="3.")]
    texts = {problem.id: Text(problem.id, problem.text, problem.rationale, "numbers") for problem in problems}
    examples, report = encode_examples(chat_tokenizer(TRIMS), problems, texts, CHAT, 400)
    assert [example.problem_id for example in examples] == ["b"]
    assert report.skipped == {QUESTION_CHANGED: 1}
    assert [row.problem_id for row in encode_labels(chat_tokenizer(TRIMS), problems, CHAT["predict"], 400)] == ["b"]
    with pytest.raises(InputError, match="validation"):
        encode_labels(chat_tokenizer(TRIMS), problems[:1], CHAT["predict"], 400)


def test_a_tokenizer_without_a_chat_template_encodes_nothing():
    problems = make_problems(2)
    with pytest.raises(TokenizerError, match="none"):
        encode_examples(chat_tokenizer(None), problems, make_texts(problems), CHAT, 400)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A student after two steps in its chat template, its tokenizer, problems and examples."""
    folder = tmp_path_factory.mktemp("chat")
    problems, tokenizer = make_problems(6), chat_tokenizer(DEFAULT_SYSTEM)
    store = make_store(folder / "attention", problems)
    examples, _ = encode_examples(tokenizer, problems, make_texts(problems), CHAT, 400, store)
    student, _ = train(
        folder / "student",
        examples,
        student=make_llama(vocab_size=len(tokenizer), max_position_embeddings=400),
        tokenizer=tokenizer,
        steps=2,
    )
    return student, tokenizer, problems, examples


def test_a_trained_student_stops_at_the_end_of_its_turn_wherever_it_is_loaded(trained):
    student, tokenizer, _, examples = trained
    end = tokenizer.convert_tokens_to_ids(END_TURN)
    assert {text.input_ids[-1] for example in examples for text in example.sequences.values()} == {end}
    assert student.generation_config.eos_token_id == [tokenizer.eos_token_id, end]
    assert all(example.teacher_LSK is not None for example in examples)


def test_a_test_stops_at_the_end_of_the_turn(trained):
    """The student is made to write the end of the turn; its own generation config does not name it."""
    student, tokenizer, problems, _ = trained
    end = tokenizer.convert_tokens_to_ids(END_TURN)
    student.generation_config.eos_token_id = tokenizer.eos_token_id

    def always_end(module, inputs, output):
        output.logits[..., end] = 1e4
        return output

    handle = student.register_forward_hook(always_end)
    try:
        (batch,) = predict(student, tokenizer, problems[:2], CHAT["predict"], max_new_tokens=5)
        (other,) = decode_batches(student, tokenizer, ["1"], max_new_tokens=5, batch_size=1)
    finally:
        handle.remove()
    assert [(row.output, row.tokens, row.cut) for row in batch] == [("", 0, False)] * 2
    assert other[0].cut, "without the chat's end, it would go on"
