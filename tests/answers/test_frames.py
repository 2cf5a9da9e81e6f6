"""Where an answer stands: in JSON, in other languages, in a last line in bold, alone, in other English sentences."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molsaki.answers.parse import parse_answer, parse_label

WET = ("water", "sand", "air")
WORK = "Each of the 6 boxes holds 7 pens, so 6*7 = 42."


@pytest.mark.parametrize(
    ("text", "rationale"),
    [
        (json.dumps({"reasoning": WORK, "answer": 42}), WORK),
        (json.dumps({"reasoning": WORK, "answer": "42"}, indent=2), WORK),
        (f"```json\n{json.dumps({'steps': ['Six sevens.', WORK], 'final_answer': 42.0})}\n```", f"Six sevens.\n{WORK}"),
        (f"{WORK}\n```json\n{json.dumps({'answer': '42 pens'})}\n```\nI hope it helps.", WORK),
        (json.dumps({"answer": "\\boxed{42}", "explanation": WORK}), WORK),
        (
            json.dumps({"steps": [{"explanation": "Six sevens.", "output": WORK}], "final_answer": "42"}),
            f"Six sevens.\n{WORK}",
        ),
        (json.dumps({"explanation": WORK, "correct answer": "$42$", "confidence": 0.9}), WORK),
        (f"<think>Hm.</think>{json.dumps({'thought': WORK, 'answer': 42})}<|im_end|>", WORK),
        (f"{WORK}\n\n**42**", WORK),
        (f"{WORK}\n\n**42 pens**", WORK),
        ("42", ""),
        ("$42", ""),
        ("42 pens", ""),
        (f"{WORK}\n答案是42。", WORK),
        (f"{WORK}\n因此，答案：42", WORK),
        (f"{WORK}\n答案是 42，因为 6*7 = 42。", WORK),
        (f"{WORK}\nDie Antwort lautet 42.", WORK),
        (f"{WORK}\nLa respuesta correcta es 42 lápices.", WORK),
        (f"{WORK}\nLa réponse est 42.", WORK),
        (f"{WORK}\nОтвет: 42", WORK),
        (f"{WORK[:-1]}, por lo tanto la respuesta es 42.", WORK[:-1]),
        ("每盒7支，6×7=42，所以答案是42。", "每盒7支，6×7=42"),
        (
            "小明说答案是41，但这是错的。每盒7支，6×7=42。因此，答案是42。",
            "小明说答案是41，但这是错的。每盒7支，6×7=42。",
        ),
        (f"{WORK}\n정답은 42입니다.", WORK),
        (f"{WORK} So the answer, in pens, is 42.", WORK),
        (f"{WORK}\nAns. 42", WORK),
        (f"{WORK}\nAnswer - 42", WORK),
        (f"{WORK} So $\\boxed{{\\text{{The answer is }} 42}}$.", WORK),
    ],
)
def test_a_number_is_found_in_its_frame(text: str, rationale: str) -> None:
    parsed = parse_answer(text)
    assert (parsed.value, parsed.rationale) == (42, rationale)


LETTERS = [
    "答案是{}。",
    "答案：{}",
    "正确答案是{}",
    "【答案】{}【解析】沙子",
    "故选{}。",
    "所以选 {}。",
    "正解は{}です。",
    "정답: {}",
    "Die richtige Antwort ist {}.",
    "La respuesta correcta es {}.",
    "La bonne réponse est {}.",
    "A resposta é {}.",
    "La respuesta es la opción {}.",
    "Правильный ответ: {}",
    "答案选{}",
    "我选{}。",
    "答案是{}选项。",
    "Ответ: {}",
    "Answer – {}",
    "So the answer must be {}.",
    "The best choice is {}.",
    "The answer is indeed {}.",
]


@given(st.sampled_from(LETTERS), st.sampled_from(["{}", "**{}**", "({})", "（{}）"]), st.integers(0, 2))
def test_a_letter_is_found_in_every_language(sentence: str, dress: str, index: int) -> None:
    parsed = parse_answer("It is wet.\n" + sentence.format(dress.format("ABC"[index])), WET)
    assert (parsed.choice, parsed.rationale) == (index, "It is wet.")


@pytest.mark.parametrize(
    ("text", "choices", "choice"),
    [
        ('{"answer": "B"}', WET, 1),
        ('{"answer": true}', ("no", "yes"), 1),
        ("It is dry.\n\n**B) sand**", WET, 1),
        ("sand", WET, 1),
        ("(B) sand", WET, 1),
        ("The answer is not a park.", ("park", "not a park"), 1),
        ("The answer is never.", ("always", "never"), 1),
    ],
)
def test_a_choice_is_found_in_its_frame(text: str, choices: tuple[str, ...], choice: int) -> None:
    assert parse_answer(text, choices).choice == choice
    assert parse_label(text, choices).choice in (choice, None)


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        ("答案不是B。", WET),
        ("答案是什么？", WET),
        ("答案是B和C。", WET),
        ("Die Antwort ist nicht B.", WET),
        ("La respuesta no es B.", WET),
        ('{"answer": null}', ()),
        ('{"answer": [42, 43]}', ()),
        ('{"answer": "x", "steps": [{"answer": 3}]}', ()),
        (f"{WORK}\n\n**Step 3**", ()),
        (f"{WORK}\n\n**Note:** see above", ()),
        ("It is 42 or so.", ()),
        ("Tom has 42 pens.", ()),
        ("Sand is dry.", WET),
        ("The answer is not a parking lot.", ("park", "not a park")),
        ("The answer must be a dry one.", WET),
        ("My answer - which was 42 - is wrong.", ()),
    ],
)
def test_what_only_looks_like_a_frame_states_no_answer(text: str, choices: tuple[str, ...]) -> None:
    assert parse_answer(text, choices).status != "ok"


@given(
    st.recursive(
        st.integers() | st.text(max_size=5) | st.none(), lambda inner: st.lists(inner, max_size=2), max_leaves=3
    )
)
def test_a_json_answer_of_any_kind_is_read_as_itself_or_not_at_all(value: object) -> None:
    parsed = parse_answer(json.dumps({"work": "We count.", "answer": value}))
    if isinstance(value, int):
        assert parsed.value == value or abs(value) > 10**15
    elif not isinstance(value, str):
        assert parsed.value is None or str(int(parsed.value)) in json.dumps(value)


@pytest.mark.parametrize(
    "text", ['{"a":' * 20_000, '{"' * 100_000, '{"answer": ' + "[" * 100_000, '{"answer": "' * 20_000]
)
def test_hostile_json_is_read_as_text(text: str) -> None:
    assert parse_answer(text).status != "ok"


@pytest.mark.parametrize("depth", [50, 900, 5_000, 100_000])
def test_deeply_nested_replies_are_read_or_left_alone(depth: int) -> None:
    for opening, inner, closing in (("[", '"so"', "]"), ('{"a": ', "1", "}")):
        nested = opening * depth + inner + closing * depth
        parse_answer(f'{{"work": {nested}, "answer": 42}}')
        parse_answer(f'{{"answer": {nested}, "work": "so"}}')
