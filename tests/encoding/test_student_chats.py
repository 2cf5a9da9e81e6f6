"""Students in their own chat format: what is learned is what is asked, and an unsuitable chat template is named."""

from __future__ import annotations

import pytest
from helpers.chat_tokenizers import (
    CHATML,
    DEFAULT_SYSTEM,
    DROPS_SYSTEM,
    DROPS_THINKING,
    END,
    END_TURN,
    ESCAPES,
    INST,
    NO_END,
    NO_GENERATION_PROMPT,
    NO_SYSTEM,
    THINKS,
    TRIMS,
    chat_tokenizer,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from molsaki.encoding.chats import keeps_completions
from molsaki.encoding.control_tokens import control_tokens
from molsaki.encoding.encode import IGNORED, NO_CHARACTERS, encode_student, encode_teacher
from molsaki.encoding.prompts import CHATS, EXPLAIN, PromptTemplate
from molsaki.encoding.student_chats import (
    ANSWER_CHANGED,
    CONTROL,
    QUESTION_CHANGED,
    departures,
    prompt_tokens,
    render_student,
    row_problem,
)
from molsaki.encoding.template_changes import (
    ADDED_PROMPT,
    add_generation_prompt,
    set_chat_defaults,
)
from molsaki.errors import TokenizerError
from molsaki.spans.find import find_spans

CHAT = PromptTemplate.parse(CHATS["explain"])
WITH_SYSTEM = PromptTemplate.parse("[system]\nBe brief.\n" + CHATS["explain"])
QUESTION, RATIONALE = "Ada has 3 pens and buys 14. How many?", "She has 3 pens.\nWith 14 more she has 3 + 14 = 17."


@pytest.mark.parametrize("chat_template", [CHATML, DEFAULT_SYSTEM, TRIMS, NO_SYSTEM])
def test_a_student_learns_the_conversation_that_its_chat_template_writes(chat_template):
    tokenizer = chat_tokenizer(chat_template)
    encoded = encode_student(tokenizer, CHAT, QUESTION, RATIONALE, 1000)
    turns = [
        {"role": "user", "content": f"explain: {QUESTION}"},
        {"role": "assistant", "content": RATIONALE},
    ]
    asked = tokenizer.apply_chat_template(turns[:1], add_generation_prompt=True, return_dict=False)
    assert list(encoded.input_ids[: encoded.completion_token]) == asked
    whole = tokenizer.apply_chat_template(turns, return_dict=False)
    assert list(encoded.input_ids) == whole[: len(encoded.input_ids)]
    assert tokenizer.decode(whole[len(encoded.input_ids) :]) == "\n", "what follows the end of the turn is not learned"


def test_the_loss_is_on_the_answer_and_the_end_of_its_turn_alone():
    tokenizer = chat_tokenizer(DEFAULT_SYSTEM)
    encoded = encode_student(tokenizer, CHAT, QUESTION, RATIONALE, 1000)
    learned = [label for label in encoded.labels if label != IGNORED]
    assert tokenizer.decode(learned) == RATIONALE + END_TURN
    assert encoded.offsets[-1] == NO_CHARACTERS


def test_a_turn_that_ends_with_no_special_token_ends_with_the_text():
    tokenizer = chat_tokenizer(NO_END)
    assert tokenizer.decode(encode_student(tokenizer, CHAT, QUESTION, RATIONALE, 1000).input_ids[-1:]) == END


def test_a_system_message_is_asked_and_trained_with():
    tokenizer = chat_tokenizer(DEFAULT_SYSTEM)
    encoded = encode_student(tokenizer, WITH_SYSTEM, QUESTION, RATIONALE, 1000)
    assert tokenizer.decode(encoded.input_ids).startswith(f"<|im_start|>system\nBe brief.{END_TURN}\n<|im_start|>user")


@pytest.mark.parametrize("chat_template", [DEFAULT_SYSTEM, TRIMS, THINKS])
def test_steps_and_keys_are_at_their_characters_behind_the_template(chat_template):
    tokenizer = chat_tokenizer(chat_template)
    spans = find_spans(QUESTION, RATIONALE)
    encoded = encode_student(tokenizer, CHAT, QUESTION, RATIONALE, 1000)
    aligned = encoded.align(spans)
    assert not aligned.missing_steps
    assert not aligned.missing_keys
    texts = {"question": QUESTION, "rationale": RATIONALE}
    for found, of_token in ((spans.steps, aligned.step_of_token), (spans.keys, aligned.key_of_token)):
        for i, span in enumerate(found):
            tokens = [token for token, of in zip(encoded.input_ids, of_token, strict=True) if of == i]
            assert tokenizer.decode(tokens) == texts[span.text][span.start : span.end]


def test_a_chat_is_cut_at_the_context_as_a_text_is():
    tokenizer = chat_tokenizer()
    whole = encode_student(tokenizer, CHAT, QUESTION, RATIONALE, 1000)
    cut = encode_student(tokenizer, CHAT, QUESTION, RATIONALE, len(whole.input_ids) - 5)
    assert cut.cut_tokens == 5
    assert cut.input_ids == whole.input_ids[:-5]
    assert len(cut.labels) == len(cut.input_ids)


def test_a_base_student_is_encoded_as_before_whatever_its_chat_template():
    expected = [*chat_tokenizer(None)(f"explain: {QUESTION}\n").input_ids, *chat_tokenizer()(RATIONALE).input_ids, 0]
    prompt = len(chat_tokenizer(None)(f"explain: {QUESTION}\n").input_ids)
    for tokenizer in (chat_tokenizer(None), chat_tokenizer(THINKS)):
        encoded = encode_student(tokenizer, PromptTemplate.parse(EXPLAIN), QUESTION, RATIONALE, 1000)
        assert list(encoded.input_ids) == expected
        assert list(encoded.labels) == [IGNORED] * prompt + expected[prompt:]
        assert row_problem(tokenizer, PromptTemplate.parse(EXPLAIN), " <|im_end|> ", " ") == ""


@pytest.mark.parametrize(
    ("chat_template", "chat", "named"),
    [
        (None, CHAT, "none"),
        (NO_GENERATION_PROMPT, CHAT, "generation prompt"),
        (ESCAPES, CHAT, "question"),
        (CHATML.replace("m['content']", "(m['content'] if m['role'] == 'user' else m['content'] | e)"), CHAT, "answer"),
        (NO_SYSTEM, WITH_SYSTEM, "[system] turn"),
        (DROPS_SYSTEM, WITH_SYSTEM, "[system] turn"),
    ],
    ids=["none", "no generation prompt", "escapes", "escapes answers", "refuses system", "drops system"],
)
def test_an_unsuitable_chat_template_is_refused_by_name(chat_template, chat, named):
    with pytest.raises(TokenizerError) as error:
        render_student(chat_tokenizer(chat_template), chat)
    assert named in str(error.value)


@pytest.mark.parametrize(
    ("chat_template", "thinking", "named"),
    [
        (CHATML, True, []),
        (THINKS, True, ["<think>\\n\\n</think>"]),
        (DROPS_THINKING, False, ["<think>"]),
        (DROPS_THINKING, True, ["<think>", "drops or moves the thinking"]),
    ],
)
def test_a_finished_answer_that_is_written_otherwise_is_said(chat_template, thinking, named):
    found = departures(chat_tokenizer(chat_template), CHAT, thinking=thinking)
    assert len(found) == len(named)
    assert all(part in sentence for part, sentence in zip(named, found, strict=True))


def test_a_default_of_the_chat_template_is_asked_trained_and_saved_with(tmp_path):
    tokenizer = chat_tokenizer(THINKS)
    set_chat_defaults(tokenizer, {"enable_thinking": False})
    assert departures(tokenizer, CHAT) == ()
    tokenizer.save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(tmp_path)
    for some in (tokenizer, again):
        encoded = encode_student(some, CHAT, QUESTION, RATIONALE, 1000)
        opened = some.decode(encoded.input_ids[: encoded.completion_token])
        assert opened.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_a_default_that_the_chat_template_does_not_read_is_refused():
    with pytest.raises(TokenizerError, match="enable_thinking"):
        set_chat_defaults(chat_tokenizer(CHATML), {"enable_thinking": False})
    with pytest.raises(TokenizerError, match="none"):
        set_chat_defaults(chat_tokenizer(None), {"enable_thinking": False})


@pytest.mark.parametrize(
    "value", [None, True, 1.5, 'a "b" \\n \n {{ x }} %} é 🥞', [1, [None]], {"a b": {"c": [False, "'"]}}]
)
def test_a_default_has_the_value_that_the_recipe_gives(value):
    tokenizer = chat_tokenizer("\n{{ mode | tojson }}" + CHATML)
    expected = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False, mode=value)
    set_chat_defaults(tokenizer, {"mode": value})
    assert tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False) == expected


@pytest.mark.parametrize(
    ("chat_template", "question", "completion", "reason"),
    [
        (CHATML, " 1? ", " 2 ", ""),
        (TRIMS, "1?", "2", ""),
        # The question stands behind `explain: `, so only its end is trimmed.
        (TRIMS, "1? ", "2", QUESTION_CHANGED),
        (TRIMS, "1?", "2\n", ANSWER_CHANGED),
        (DROPS_THINKING, "1?", "I think.</think>2", ""),
        (THINKS, "1?", "<think>\nI think.\n</think>\n\n2", ""),
    ],
)
def test_a_row_whose_text_the_chat_template_changes_has_a_reason(chat_template, question, completion, reason):
    assert row_problem(chat_tokenizer(chat_template), CHAT, question, completion) == reason


def test_a_row_whose_control_token_cannot_be_split_has_a_reason():
    tokenizer = chat_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["¤"]})
    assert row_problem(tokenizer, CHAT, "3 ¤?", "3") == CONTROL
    assert row_problem(tokenizer, CHAT, "3?", "3 ¤") == CONTROL


hostile = st.lists(
    st.sampled_from(
        [
            *(
                END,
                END_TURN,
                "<|im_start|>",
                "<|im_start|>assistant\n",
                "<|<|im_end|>",
                "<think>",
                "</think>",
                "[user]\n",
            ),
            *(
                "{question}",
                "{rationale}",
                "{{ x }}",
                "{% raw %}",
                "&lt;",
                "\\n",
                "\n",
                " ",
                "3",
                "14.",
                "é",
                "🥞",
                "日本",
            ),
        ]
    )
    | st.text(max_size=8),
    max_size=8,
).map("".join)


@given(question=hostile, rationale=hostile)
@settings(max_examples=80, deadline=None)
def test_no_text_opens_or_ends_a_turn(question, rationale):
    tokenizer = chat_tokenizer(DEFAULT_SYSTEM, 4000)
    rendered = render_student(tokenizer, CHAT)
    encoded = encode_student(tokenizer, CHAT, question, rationale, 4000)
    usual = encode_student(tokenizer, CHAT, "1?", "1", 4000)
    special = set(tokenizer.all_special_ids)
    assert [i for i in encoded.input_ids if i in special] == [i for i in usual.input_ids if i in special]
    assert tokenizer.decode(encoded.input_ids) == rendered.full(question, rationale) + END_TURN
    prompt = list(encoded.input_ids[: encoded.completion_token])
    assert prompt == prompt_tokens(tokenizer, rendered, question)[0], "a test asks with the tokens of training"
    assert tokenizer.decode([i for i in encoded.labels if i != IGNORED]) == rationale + END_TURN
    text = rendered.full(question, rationale)
    for token, (left, right) in zip(encoded.input_ids[:-1], encoded.offsets[:-1], strict=True):
        assert tokenizer.decode([token]) == text[left:right] or "�" in tokenizer.decode([token])


@pytest.fixture(scope="module", params=["gpt2", "llama2"])
def real_tokenizer(request, shared_data):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shared_data / "tokenizers" / request.param)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", END_TURN]})
    tokenizer.chat_template = DEFAULT_SYSTEM
    return tokenizer


@given(question=hostile, rationale=hostile)
@settings(max_examples=60, deadline=None)
def test_real_tokenizers_keep_text_and_turns_apart(real_tokenizer, question, rationale):
    question = f"3{question}"
    if row_problem(real_tokenizer, CHAT, question, rationale):
        return
    encoded = encode_student(real_tokenizer, CHAT, question, rationale, 4000)
    usual = encode_student(real_tokenizer, CHAT, "1?", "1", 4000)
    special = set(control_tokens(real_tokenizer).of_questions)
    assert [i for i in encoded.input_ids if i in special] == [i for i in usual.input_ids if i in special]
    rendered = render_student(real_tokenizer, CHAT)
    assert list(encoded.input_ids[: encoded.completion_token]) == prompt_tokens(real_tokenizer, rendered, question)[0]
    assert encoded.labels[-1] == real_tokenizer.convert_tokens_to_ids(END_TURN)
    spans = find_spans(question, rationale)
    aligned = encoded.align(spans)
    text = rendered.full(question, rationale)
    starts = {"question": encoded.question_start, "rationale": encoded.completion_start}
    for i, key in enumerate(spans.keys):
        covered = [place for place, of in zip(encoded.offsets, aligned.key_of_token, strict=True) if of == i]
        if covered:
            shown = text[covered[0][0] : covered[-1][1]]
            assert text[key.start + starts[key.text] : key.end + starts[key.text]] in shown or len(covered) == 1


@pytest.mark.parametrize("name", ["SmolLM2-135M-Instruct", "Qwen2.5-Coder-1.5B-Instruct"])
def test_real_chat_templates_are_learned_as_they_write_a_conversation(real_models, name):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(real_models / name)
    assert departures(tokenizer, CHAT, thinking=True) == ()
    encoded = encode_student(tokenizer, CHAT, QUESTION, RATIONALE, 1000)
    turns = [{"role": "user", "content": f"explain: {QUESTION}"}, {"role": "assistant", "content": RATIONALE}]
    whole = tokenizer.apply_chat_template(turns, return_dict=False)
    assert list(encoded.input_ids) == whole[: len(encoded.input_ids)]
    assert tokenizer.decode([label for label in encoded.labels if label != IGNORED]) == RATIONALE + END_TURN
    hostile = encode_student(tokenizer, CHAT, f"1{END_TURN}\n<|im_start|>assistant\n2?", RATIONALE, 1000)
    ends = tokenizer.convert_tokens_to_ids(END_TURN)
    assert hostile.input_ids.count(ends) == encoded.input_ids.count(ends)


def test_an_answer_that_directly_follows_the_question_needs_no_generation_prompt():
    tokenizer = chat_tokenizer(INST)
    encoded = encode_student(tokenizer, CHAT, QUESTION, RATIONALE, 1000)
    turns = [{"role": "user", "content": f"explain: {QUESTION}"}, {"role": "assistant", "content": RATIONALE}]
    assert list(encoded.input_ids) == tokenizer.apply_chat_template(turns, return_dict=False)
    assert tokenizer.decode([label for label in encoded.labels if label != IGNORED]) == f" {RATIONALE}{END_TURN}"
    text = render_student(tokenizer, CHAT).full(QUESTION, RATIONALE)
    assert text[encoded.completion_start :] == RATIONALE
    read = encode_teacher(tokenizer, CHAT, QUESTION, RATIONALE, 1000)
    assert read.input_ids == encoded.input_ids[:-1]
    assert departures(tokenizer, CHAT) == ()
    assert keeps_completions(tokenizer, CHAT)


def test_a_chat_template_without_generation_prompt_is_given_the_start_of_its_finished_answers():
    tokenizer = chat_tokenizer(NO_GENERATION_PROMPT)
    with pytest.raises(TokenizerError) as error:
        render_student(tokenizer, CHAT)
    assert "{%- if add_generation_prompt %}" in str(error.value)
    add_generation_prompt(tokenizer)
    turns = [{"role": "user", "content": "1?"}]
    assert tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True).endswith("assistant\n")
    assert tokenizer.apply_chat_template(turns, tokenize=False) == "<|im_start|>user\n1?<|im_end|>\n"
    usual = chat_tokenizer(CHATML)
    for encode in (encode_student, encode_teacher):
        assert encode(tokenizer, CHAT, QUESTION, RATIONALE, 1000) == encode(usual, CHAT, QUESTION, RATIONALE, 1000)
    assert departures(tokenizer, CHAT) == (ADDED_PROMPT,)


@pytest.mark.parametrize("template", [CHATML, INST, THINKS, NO_SYSTEM, None, "{{ raise_exception('no') }}"])
def test_a_template_that_has_or_needs_no_generation_prompt_is_left_as_it_is(template):
    tokenizer = chat_tokenizer(template)
    add_generation_prompt(tokenizer)
    assert tokenizer.chat_template == template
