"""Chat templates that take a message's content only as a list of parts, as those of models that read images."""

from __future__ import annotations

import datetime

import pytest
from helpers.chat_tokenizers import CHATML, END_TURN, chat_tokenizer

from molsaki.encoding.chats import keeps_completions, render_prompt
from molsaki.encoding.encode import IGNORED, encode_student, encode_teacher
from molsaki.encoding.prompts import CHATS, PromptTemplate
from molsaki.encoding.student_chats import (
    ANSWER_CHANGED,
    QUESTION_CHANGED,
    departures,
    render_student,
    row_problem,
)
from molsaki.encoding.template_changes import (
    ADDED_PARTS,
    ADDED_PROMPT,
    adapt_chat_template,
    roles_in_parts,
    set_chat_defaults,
)
from molsaki.errors import TokenizerError
from molsaki.spans.find import find_spans

OPEN = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
PARTS = "{% for part in m['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}"
TURN = "{{ '<|im_start|>' + m['role'] + '\\n' }}" + PARTS + "{{ '<|im_end|>\\n' }}"
EACH = "{% for m in messages %}"
END = "{% endfor %}"
ALTERNATE = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}"
)
LOOPS = EACH + TURN + END + OPEN
RAISES = EACH + "{% if m['content'] is string %}{{ raise_exception('a list of parts') }}{% endif %}" + TURN + END + OPEN
FIRST_PART = EACH + TURN.replace(PARTS, "{{ m['content'][0]['text'] }}") + END + OPEN
JOINS = EACH + TURN.replace(PARTS, "{{ m['content'] | map(attribute='text') | join }}") + END + OPEN
# As Llava's: the answer is between marks of the library, and a blank follows it.
MARKS = (
    EACH
    + "{% if m['role'] == 'assistant' %}{{ '<|im_start|>assistant\\n' }}{% for part in m['content'] %}{% generation %}"
    + "{{ part['text'] + ' ' }}{% endgeneration %}{% endfor %}{{ '<|im_end|>\\n' }}{% else %}"
    + TURN
    + "{% endif %}"
    + END
    + OPEN
)
# As Idefics's and SmolVLM's: no blank behind the generation prompt, one before a finished answer.
NAMES = (
    "{{ '<|im_start|>' }}"
    + EACH
    + "{{ m['role'] | capitalize }}{% if m['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    + PARTS
    + "{{ '<|im_end|>\\n' }}"
    + END
    + "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
# As Pixtral's: parts in the user's turn alone, and an answer that directly follows it.
USER_ALONE = (
    EACH
    + "{% if m['role'] == 'user' %}{{ '[INST]' }}"
    + PARTS
    + "{{ '[/INST]' }}{% elif m['role'] == 'system' %}{{ '[SYS]' + m['content'] + '[/SYS]' }}"
    + "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}"
    + END
)
SYSTEM_ALONE = (
    "{% if messages[0]['role'] == 'system' %}{{ '<|im_start|>system\\n' + messages[0]['content'][0]['text'] + "
    "'<|im_end|>\\n' }}{% set messages = messages[1:] %}{% endif %}" + CHATML
)
# As Gemma's: texts and parts, strict roles, trimmed.
BOTH = (
    ALTERNATE
    + EACH
    + "{{ '<|im_start|>' + m['role'] + '\\n' }}{% if m['content'] is string %}{{ m['content'] | trim }}{% else %}"
    + PARTS.replace("part['text']", "part['text'] | trim")
    + "{% endif %}{{ '<|im_end|>\\n' }}"
    + END
    + OPEN
)
TRIMS = ALTERNATE + "{{ '<|end|>' }}" + LOOPS.replace("part['text']", "part['text'] | trim")
DATED = "{{ 'Today: ' + strftime_now('%d %b %Y') + '\\n' }}" + LOOPS
THINKS = LOOPS.replace(
    "'\\n' }}" + PARTS, "'\\n' + ('<think>\\n\\n</think>\\n\\n' if m['role'] == 'assistant' else '') }}" + PARTS
)
NEVER_OPENS = EACH + TURN + END
ALWAYS_OPENS = NEVER_OPENS + "{{ '<|im_start|>assistant\\n' }}"
NEEDS_IMAGE = LOOPS.replace(
    EACH, EACH + "{% if m['content'][0]['type'] != 'image' %}{{ raise_exception('no image') }}{% endif %}"
)
WRITES_LIST = EACH + "{{ m['content'] | upper if m['content'] is string else m['content'] }}" + END + OPEN

CHAT = PromptTemplate.parse(CHATS["explain"])
WITH_SYSTEM = PromptTemplate.parse("[system]\nBe brief.\n" + CHATS["explain"])
QUESTION, RATIONALE = "Ada has 3 pens and buys 14. How many?", "She has 3 pens.\nWith 14 more she has 3 + 14 = 17."
ALL = ["user", "assistant", "system"]
NO_SYSTEM = ["user", "assistant"]


def adapted(chat_template):
    tokenizer = chat_tokenizer(chat_template)
    adapt_chat_template(tokenizer)
    return tokenizer


def in_parts(role, text):
    return {"role": role, "content": [{"type": "text", "text": text}]}


@pytest.mark.parametrize(
    ("chat_template", "roles"),
    [
        (LOOPS, ALL),
        (RAISES, ALL),
        (FIRST_PART, ALL),
        (JOINS, ALL),
        (MARKS, ALL),
        (NAMES, ALL),
        (TRIMS, NO_SYSTEM),
        (DATED, ALL),
        (THINKS, ALL),
        (NEVER_OPENS, ALL),
        (ALWAYS_OPENS, ALL),
        (USER_ALONE, ["user"]),
        (SYSTEM_ALONE, ["system"]),
        (BOTH, []),
        (CHATML, []),
        (None, []),
        (NEEDS_IMAGE, []),
        (WRITES_LIST, []),
    ],
)
def test_a_role_is_in_parts_where_its_text_would_be_lost(chat_template, roles):
    tokenizer = chat_tokenizer(chat_template)
    assert roles_in_parts(tokenizer) == roles
    adapt_chat_template(tokenizer)
    assert roles_in_parts(tokenizer) == [], "the changed template takes texts"
    if not roles:
        assert tokenizer.chat_template == chat_template


@pytest.mark.parametrize("chat_template", [LOOPS, RAISES, FIRST_PART, JOINS, MARKS, NAMES, USER_ALONE])
@pytest.mark.parametrize("chat", [CHAT, WITH_SYSTEM], ids=["user", "system"])
def test_a_student_learns_the_conversation_that_the_template_writes_of_parts(chat_template, chat):
    tokenizer, original = adapted(chat_template), chat_tokenizer(chat_template)
    encoded = encode_student(tokenizer, chat, QUESTION, RATIONALE, 1000)
    in_lists = chat_template != USER_ALONE
    turns = [in_parts("user", f"explain: {QUESTION}")]
    if chat is WITH_SYSTEM:
        turns.insert(0, in_parts("system", "Be brief.") if in_lists else {"role": "system", "content": "Be brief."})
    asked = original.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    turns.append(in_parts("assistant", RATIONALE) if in_lists else {"role": "assistant", "content": RATIONALE})
    whole = original.apply_chat_template(turns, tokenize=False)
    assert list(encoded.input_ids[: encoded.completion_token]) == asked
    written = tokenizer.decode(encoded.input_ids)
    assert written.removesuffix(END_TURN) == whole[: len(written) - len(END_TURN)]
    assert whole[len(written) - len(END_TURN) :].strip() == END_TURN
    learned = tokenizer.decode([label for label in encoded.labels if label != IGNORED])
    assert learned.lstrip(" ") == RATIONALE + END_TURN
    assert departures(tokenizer, chat) == (ADDED_PARTS,)


@pytest.mark.parametrize("chat_template", [LOOPS, MARKS, NAMES, USER_ALONE, TRIMS, THINKS, ALWAYS_OPENS])
def test_steps_and_keys_are_at_their_characters_for_teacher_and_student(chat_template):
    tokenizer = adapted(chat_template)
    spans, texts = find_spans(QUESTION, RATIONALE), {"question": QUESTION, "rationale": RATIONALE}
    for encode in (encode_student, encode_teacher):
        encoded = encode(tokenizer, CHAT, QUESTION, RATIONALE, 1000)
        aligned = encoded.align(spans)
        assert not aligned.missing_steps
        assert not aligned.missing_keys
        for i, key in enumerate(spans.keys):
            of_key = [token for token, of in zip(encoded.input_ids, aligned.key_of_token, strict=True) if of == i]
            assert tokenizer.decode(of_key) == texts[key.text][key.start : key.end]


def test_a_blank_of_finished_answers_is_learned_with_the_answer_and_not_with_the_prompt():
    tokenizer = adapted(NAMES)
    rendered = render_student(tokenizer, CHAT)
    assert rendered.prompt("1?") == "<|im_start|>User: explain: 1?<|im_end|>\nAssistant:"
    assert rendered.full("1?", "2.").endswith("Assistant: 2.")
    encoded = encode_student(tokenizer, CHAT, "1?", "2.", 1000)
    assert tokenizer.decode([label for label in encoded.labels if label != IGNORED]) == f" 2.{END_TURN}"
    assert keeps_completions(tokenizer, CHAT)


@pytest.mark.parametrize(
    ("chat_template", "said"),
    [
        (THINKS, [ADDED_PARTS, "<think>"]),
        (NEVER_OPENS, [ADDED_PROMPT, ADDED_PARTS]),
        (ALWAYS_OPENS, [ADDED_PARTS]),
        (BOTH, []),
    ],
)
def test_what_else_the_template_does_is_said_as_of_other_templates(chat_template, said):
    found = departures(adapted(chat_template), CHAT)
    assert len(found) == len(said)
    assert all(part in sentence for part, sentence in zip(said, found, strict=True))


@pytest.mark.parametrize(
    ("chat_template", "named"),
    [
        (TRIMS, "[system] turn"),
        (BOTH, "[system] turn"),
        (NEEDS_IMAGE, "no image"),
        (WRITES_LIST, "question"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{% macro loop_() %}{{ loop_() }}{% endmacro %}{{ loop_() }}", "recursion"),
        ({"tool_use": LOOPS}, "default"),
    ],
)
def test_what_parts_cannot_mend_is_refused_with_its_reason(chat_template, named):
    with pytest.raises(TokenizerError) as error:
        render_student(adapted(chat_template), WITH_SYSTEM)
    assert named in str(error.value)


@pytest.mark.parametrize("chat_template", [LOOPS, RAISES, USER_ALONE])
def test_a_tokenizer_of_ones_own_is_refused_with_the_function_that_adapts_it(chat_template):
    with pytest.raises(TokenizerError) as error:
        render_student(chat_tokenizer(chat_template), CHAT)
    assert adapt_chat_template.__name__ in str(error.value)
    assert "user" in str(error.value)


def test_a_role_that_the_prompt_does_not_have_may_be_in_parts():
    assert "explain: {question}" in str(render_student(chat_tokenizer(SYSTEM_ALONE), CHAT))
    assert "Be brief." in str(render_student(adapted(SYSTEM_ALONE), WITH_SYSTEM))


def test_texts_that_are_trimmed_are_left_out_as_in_other_templates():
    tokenizer = adapted(TRIMS)
    assert row_problem(tokenizer, CHAT, "1?", "2.") == ""
    assert row_problem(tokenizer, CHAT, "1? ", "2.") == QUESTION_CHANGED
    assert row_problem(tokenizer, CHAT, "1?", "2. ") == ANSWER_CHANGED


def test_the_date_of_the_run_is_printed_in_a_changed_template_too():
    chat = PromptTemplate.parse(CHATS["explain"])
    template = type(chat)(chat.before, chat.after, chat.gap, chat.slot, date=datetime.date(2031, 5, 6))
    assert render_prompt(adapted(DATED), template.ask("1?")).startswith("Today: 06 May 2031\n")


def test_a_saved_student_takes_texts_and_lists_and_keeps_its_defaults(tmp_path):
    tokenizer = chat_tokenizer("\n{{ mode | default('') }}" + LOOPS)
    set_chat_defaults(tokenizer, {"mode": "short"})
    adapt_chat_template(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(tmp_path)
    image = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "1?"}]}
    shown = {
        again.apply_chat_template([turn], tokenize=False)
        for turn in ({"role": "user", "content": "1?"}, in_parts("user", "1?"), image)
    }
    assert shown == {"\nshort<|im_start|>user\n1?<|im_end|>\n"}


def test_each_of_several_named_templates_takes_texts():
    tokenizer = adapted({"default": LOOPS, "tool_use": LOOPS})
    turns = [{"role": "user", "content": "1?"}]
    for name in ("default", "tool_use"):
        assert "1?" in tokenizer.apply_chat_template(turns, tokenize=False, chat_template=name)
