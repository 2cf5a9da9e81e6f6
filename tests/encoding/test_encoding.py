"""From text to tokens: what is trained on is what is asked with, and every span finds its tokens."""

from __future__ import annotations

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizer

from molsaki.data.pocket import STUDENT
from molsaki.data.pocket import TEACHER as POCKET_TEACHER
from molsaki.encoding.encode import (
    IGNORED,
    NO_CHARACTERS,
    context_length,
    encode_student,
    encode_teacher,
    require_offsets,
    tokenizer_hash,
)
from molsaki.encoding.prompts import EXPLAIN, PREDICT, TEACHER, PromptTemplate
from molsaki.errors import TokenizerError
from molsaki.models.decode import _tokenize
from molsaki.spans.find import find_spans

QUESTION = "Zoë has 12 crêpes 🥞 and £3.50. She buys 1,200 more for 7 日本 coins; 45% are 2nd-hand. How many?"
RATIONALE = "She had 12 crêpes. 🥞🥞 With 1,200 more she has 12+1,200 = 1212.\nSo the answer is 1212"
TEMPLATES = [PREDICT, EXPLAIN, TEACHER, "Frage 1: {question}\tAntwort:  {rationale}", "{question}{rationale}"]


@pytest.fixture(scope="module", params=["pocket student", "pocket teacher", "gpt2", "llama2"])
def tokenizer(request):
    if request.param.startswith("pocket"):
        folder = STUDENT if request.param.endswith("student") else POCKET_TEACHER
    else:
        folder = request.getfixturevalue("shared_data") / "tokenizers" / request.param
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(params=TEMPLATES, ids=["predict", "explain", "teacher", "blanks", "bare"])
def template(request):
    return PromptTemplate.parse(request.param)


def known(tokenizer, text):
    """The text without what the tokenizer has no token for: the pocket vocabularies know ASCII letters only."""
    unknown = tokenizer.unk_token_id
    return all(i != unknown for i in tokenizer(text).input_ids) if unknown is not None else True


def characters(tokenizer, text, fallback):
    return text if known(tokenizer, text) else fallback


ASCII_QUESTION = "Zoe has 12 pens and 3 cups. She buys 200 more. How many?"
ASCII_RATIONALE = "She had 12 pens. With 200 more she has 12 + 200 = 212.\nSo the answer is 212"


@pytest.fixture
def texts(tokenizer):
    question = characters(tokenizer, QUESTION, ASCII_QUESTION)
    return question, characters(tokenizer, RATIONALE, ASCII_RATIONALE)


@pytest.fixture
def student(tokenizer, template, texts):
    return encode_student(tokenizer, template, *texts, max_length=10_000)


@pytest.fixture
def teacher(tokenizer, template, texts):
    return encode_teacher(tokenizer, template, *texts, max_length=10_000)


def test_the_prompt_is_trained_on_as_it_is_asked_with(tokenizer, template, texts, student):
    asked = _tokenize(tokenizer, [template.prompt(texts[0])])[0]
    assert list(student.input_ids[: student.completion_token]) == asked


def test_prompts_end_without_an_end_token(tokenizer, template, texts):
    """A tokenizer that ends every text would tell the student that nothing follows its prompt."""
    plain = encode_student(tokenizer, template, *texts, max_length=10_000)
    asked = _tokenize(tokenizer, [template.prompt(texts[0])])
    before, end = tokenizer.backend_tokenizer.post_processor, tokenizer.eos_token
    first = [tokenizer.bos_token] if tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id] else []
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in (*first, end)}
    try:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=" ".join([*first, "$A", end]), special_tokens=list(ids.items())
        )
        assert tokenizer("a")["input_ids"][-1] == tokenizer.eos_token_id
        assert encode_student(tokenizer, template, *texts, max_length=10_000).input_ids == plain.input_ids
        assert _tokenize(tokenizer, [template.prompt(texts[0])]) == asked
    finally:
        tokenizer.backend_tokenizer.post_processor = before


def test_the_labels_are_the_completion_and_an_end(tokenizer, template, texts, student):
    assert student.labels[: student.completion_token] == (IGNORED,) * student.completion_token
    completion = student.labels[student.completion_token :]
    assert completion == student.input_ids[student.completion_token :]
    assert completion[-1] == tokenizer.eos_token_id
    assert completion.count(tokenizer.eos_token_id) == 1
    text = tokenizer.decode(completion[:-1], clean_up_tokenization_spaces=False)
    assert text.strip() == texts[1].strip()
    assert student.cut_tokens == 0


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_offsets_are_characters_of_the_whole_text(tokenizer, template, texts, request, side):
    encoded = request.getfixturevalue(side)
    full = template.full(*texts)
    covered = set()
    for token, (left, right) in zip(encoded.input_ids, encoded.offsets, strict=True):
        assert 0 <= left <= right <= len(full)
        if token in tokenizer.all_special_ids:
            assert left == right
            continue
        covered.update(range(left, right))
        piece = tokenizer.decode([token], clean_up_tokenization_spaces=False)
        if "\N{REPLACEMENT CHARACTER}" not in piece and piece.strip():
            assert piece.strip() == full[left:right].strip()
    assert {i for i, character in enumerate(full) if not character.isspace()} <= covered


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_every_step_and_key_has_tokens_that_hold_its_characters(tokenizer, template, texts, request, side):
    encoded = request.getfixturevalue(side)
    full = template.full(*texts)
    spans = find_spans(*texts)
    tokens = encoded.align(spans)
    assert (tokens.n_steps, tokens.n_keys) == (len(spans.steps), len(spans.keys))
    assert tokens.missing_steps == tokens.missing_keys == ()
    assert len(tokens.step_of_token) == len(tokens.key_of_token) == len(encoded.input_ids)
    shift = {"question": encoded.question_start, "rationale": encoded.completion_start}
    for kind, owner in ((spans.steps, tokens.step_of_token), (spans.keys, tokens.key_of_token)):
        for index, span in enumerate(kind):
            start, end = span.start + shift[span.text], span.end + shift[span.text]
            assert full[start:end] == span.of(*texts)
            covered = {
                i
                for place, (left, right) in enumerate(encoded.offsets)
                if owner[place] == index
                for i in range(left, right)
            }
            assert set(range(start, end)) <= covered


def test_both_sides_have_the_same_steps_and_keys(texts, student, teacher):
    spans = find_spans(*texts)
    one, other = student.align(spans), teacher.align(spans)
    assert (one.n_steps, one.n_keys) == (other.n_steps, other.n_keys)
    assert sorted(set(one.step_of_token)) == sorted(set(other.step_of_token))
    assert sorted(set(one.key_of_token)) == sorted(set(other.key_of_token))


def test_prompt_and_special_tokens_belong_to_no_step(tokenizer, template, texts, student):
    tokens = student.align(find_spans(*texts))
    ends = template.question_start, template.question_start + len(texts[0])
    for place, (left, right) in enumerate(student.offsets[: student.completion_token]):
        if (left, right) == NO_CHARACTERS or right <= ends[0] or left >= ends[1]:
            assert tokens.step_of_token[place] == tokens.key_of_token[place] == -1
    assert tokens.step_of_token[-1] == -1


def test_the_teacher_reads_the_text_as_one(tokenizer, template, texts, teacher):
    assert list(teacher.input_ids) == tokenizer(template.full(*texts)).input_ids
    left, right = teacher.offsets[teacher.completion_token]
    assert left <= teacher.completion_start < right


@pytest.mark.parametrize("encode", [encode_student, encode_teacher])
def test_what_does_not_fit_is_cut_and_counted(tokenizer, texts, encode):
    template = PromptTemplate.parse(EXPLAIN)
    whole = encode(tokenizer, template, *texts, max_length=10_000)
    spans = find_spans(*texts)
    before = (0, 0)
    for length in range(1, len(whole.input_ids)):
        cut = encode(tokenizer, template, *texts, max_length=length)
        assert cut.input_ids == whole.input_ids[:length]
        assert cut.offsets == whole.offsets[:length]
        assert cut.cut_tokens == len(whole.input_ids) - length
        assert cut.completion_token == min(whole.completion_token, length)
        assert len(cut.labels) == length
        tokens = cut.align(spans)
        found = tokens.n_steps - len(tokens.missing_steps), tokens.n_keys - len(tokens.missing_keys)
        assert found >= before  # a longer text never has fewer
        before = found
        for missing, owner in (
            (tokens.missing_steps, tokens.step_of_token),
            (tokens.missing_keys, tokens.key_of_token),
        ):
            assert not set(missing) & set(owner)


def test_a_long_prompt_is_encoded_without_a_warning(tokenizer, caplog):
    encode_student(tokenizer, PromptTemplate.parse(PREDICT), "How many pens? " * 3000, "12", 64)
    encode_teacher(tokenizer, PromptTemplate.parse(TEACHER), "How many pens? " * 3000, "12", 64)
    assert not caplog.records


class Letters(PreTrainedTokenizer):
    """A slow tokenizer: one token a letter, and no offsets."""

    def __init__(self, **kwargs):
        self._letters = [chr(i) for i in range(32, 127)]
        super().__init__(**{"eos_token": "~", "unk_token": "?", **kwargs})

    @property
    def vocab_size(self):
        return len(self._letters)

    def get_vocab(self):
        return {letter: i for i, letter in enumerate(self._letters)}

    def _tokenize(self, text, **kwargs):
        return list(text)

    def _convert_token_to_id(self, token):
        return self.get_vocab().get(token, 0)

    def _convert_id_to_token(self, index):
        return self._letters[index]


def test_a_tokenizer_without_offsets_is_refused_with_a_way_out():
    with pytest.raises(TokenizerError) as error:
        require_offsets(Letters())
    assert "Letters" in str(error.value)
    assert "tokenizer.json" in str(error.value)


def test_an_end_is_asked_for_where_it_is_needed():
    tokenizer = AutoTokenizer.from_pretrained(STUDENT)
    require_offsets(tokenizer)
    tokenizer.eos_token = None
    require_offsets(tokenizer, end=False)
    with pytest.raises(TokenizerError, match="eos_token"):
        require_offsets(tokenizer)


def test_the_context_is_the_smallest_of_what_model_tokenizer_and_recipe_allow():
    from transformers import GPT2Config

    tokenizer = AutoTokenizer.from_pretrained(STUDENT)
    config = GPT2Config(n_positions=100)
    tokenizer.model_max_length = 10**30
    assert context_length(tokenizer, config) == 100
    assert context_length(tokenizer, config, 50) == 50
    tokenizer.model_max_length = 70
    assert context_length(tokenizer, config, 80) == 70


def test_the_tokenizers_hash_tells_tokenizers_apart():
    one, other = (AutoTokenizer.from_pretrained(folder) for folder in (STUDENT, POCKET_TEACHER))
    assert tokenizer_hash(one) == tokenizer_hash(AutoTokenizer.from_pretrained(STUDENT))
    assert tokenizer_hash(one) != tokenizer_hash(other)
