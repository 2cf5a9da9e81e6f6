"""The shapes of files that people have, row by row as docs/data.md: each loads, or is refused with what to write."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from molsaki.data import load_problems
from molsaki.errors import DataError
from molsaki.records import Problem

DOCS = Path(__file__).resolve().parents[2] / "docs" / "data.md"
ASKED, STATED = "Ada has 3 boxes of 7 beads. How many beads?", "3 boxes of 7 are 3 * 7 = 21. The answer is 21."
REASON = "3 boxes of 7 are 3 * 7 = 21."
SUM = Problem("rows/0", ASKED, "21", "21", rationale=REASON)
SEA = Problem("rows/0", "Where do fish live?", "sea", "sea", ("sea", "sky"))
NUMBERS = Problem("rows/0", ASKED, "21", "21", ("21", "22.5"))
YES = Problem("rows/0", "Do fish swim?", "yes", "yes", ("yes", "no"))
TURNS = [("user", ASKED), ("assistant", STATED)]


def rows(*values: Any) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def table(columns: dict[str, Any]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


CHAT = {"messages": [{"role": role, "content": text} for role, text in TURNS]}
SYSTEM = {"messages": [{"role": "system", "content": "Think."}, *CHAT["messages"]]}
PARTS = {"messages": [{"role": r, "content": [{"type": "text", "text": t}]} for r, t in TURNS]}
SHARE = {
    "conversations": [{"from": {"user": "human", "assistant": "gpt"}[role], "value": text} for role, text in TURNS]
}
ALPACA = {"instruction": "Ada has 3 boxes of 7 beads.", "input": "How many beads?", "output": STATED}
ONE = {"question": ASKED, "answer": 21}
LETTER = {"q": "Where do fish live?", "a": "A"}
PLAIN = {"question": "q", "answer": "a"}
BY_LETTER = {**PLAIN, "choices": "options", "answer_is": "letter"}
JOINED = Problem("rows/0", "Ada has 3 boxes of 7 beads.\nHow many beads?", "21", "21", rationale=REASON)
BARE = Problem("rows/0", ASKED, "21", "21")
SUMS = {"q": ASKED, "a": 21}
TURN = {"question": "messages[user]", "answer": "messages[assistant]", "answer_is": "stated"}
CALL = [{"role": "assistant", "content": None, "tool_calls": []}, {"role": "tool", "content": "21"}]
TOOLS = {"messages": [CHAT["messages"][0], *CALL, CHAT["messages"][1]]}
PICTURE = {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, CHAT["messages"][1]]}

CASES: dict[str, tuple[str, str | bytes, dict[str, Any], Problem | str]] = {
    "a chat of OpenAI's": (
        "rows.jsonl",
        rows(SYSTEM),
        {
            "question": "messages[user]",
            "answer": "messages[assistant]",
            "answer_is": "stated",
            "rationale": "messages[assistant]",
        },
        SUM,
    ),
    "a chat by the positions of its turns": (
        "rows.jsonl",
        rows(CHAT),
        {
            "question": "messages[0].content",
            "answer": "messages[-1].content",
            "answer_is": "stated",
            "rationale": "messages[-1].content",
        },
        SUM,
    ),
    "a chat whose content is a list of parts": (
        "rows.jsonl",
        rows(PARTS),
        {
            "question": "messages[0].content",
            "answer": "messages[assistant]",
            "answer_is": "stated",
            "rationale": "messages[assistant]",
        },
        SUM,
    ),
    "a chat without a mapping that fits": ("rows.jsonl", rows(CHAT), PLAIN, r"question: 'messages\[user\]'"),
    "ShareGPT": (
        "rows.json",
        json.dumps([SHARE]),
        {
            "question": "conversations[human]",
            "answer": "conversations[gpt]",
            "answer_is": "stated",
            "rationale": "conversations[gpt]",
        },
        SUM,
    ),
    "ShareGPT with several questions": (
        "rows.jsonl",
        rows({"conversations": SHARE["conversations"] * 2}),
        {"question": "conversations[human]", "answer": "conversations[gpt]", "answer_is": "stated"},
        "several turns of 'human'; name one by its position",
    ),
    "Alpaca": (
        "rows.json",
        json.dumps([ALPACA], indent=2),
        {"question": ["instruction", "input"], "answer": "output", "answer_is": "stated", "rationale": "output"},
        JOINED,
    ),
    "Alpaca without an input": (
        "rows.jsonl",
        rows({**ALPACA, "instruction": ASKED, "input": ""}),
        {"question": ["instruction", "input"], "answer": "output", "answer_is": "stated", "rationale": "output"},
        SUM,
    ),
    "Alpaca without a mapping that fits": ("rows.jsonl", rows(ALPACA), PLAIN, r"question: \[instruction, input\]"),
    "an answer after `####`": (
        "rows.jsonl",
        rows({"q": ASKED, "a": f"{REASON}\n#### 21"}),
        {**PLAIN, "answer_is": "stated", "rationale": "a"},
        SUM,
    ),
    "an answer in a sentence, not declared": (
        "rows.jsonl",
        rows({"q": ASKED, "a": STATED}),
        PLAIN,
        "answer_is: stated",
    ),
    "choices as a list": ("rows.jsonl", rows({**LETTER, "options": ["sea", "sky"]}), BY_LETTER, SEA),
    "choices as `A)21`": (
        "rows.jsonl",
        rows({"q": ASKED, "a": "A", "options": ["A)21", "B)22.5"]}),
        BY_LETTER,
        NUMBERS,
    ),
    "choices in one text": (
        "rows.csv",
        f'q,options,a\n"{ASKED}",A) 21 B) 22.5,A) 21\n',
        BY_LETTER,
        NUMBERS,
    ),
    "choices as numbers": (
        "rows.jsonl",
        rows({"q": ASKED, "a": 21, "options": [21, 22.5]}),
        {**PLAIN, "choices": "options"},
        NUMBERS,
    ),
    "choices by letter": ("rows.jsonl", rows({**LETTER, "options": {"A": "sea", "B": "sky"}}), BY_LETTER, SEA),
    "choices in an object of lists": (
        "rows.jsonl",
        rows({**LETTER, "choices": {"text": ["sea", "sky"], "label": ["A", "B"]}}),
        {**BY_LETTER, "choices": "choices.text"},
        SEA,
    ),
    "choices in a list of objects": (
        "rows.jsonl",
        rows({**LETTER, "choices": [{"label": "A", "text": "sea"}, {"label": "B", "text": "sky"}]}),
        {**BY_LETTER, "choices": "choices.text"},
        SEA,
    ),
    "choices in columns of their own": (
        "rows.csv",
        "q,opa,opb,a\nWhere do fish live?,sea,sky,1\n",
        {**PLAIN, "choices": ["opa", "opb"], "answer_is": "index-from-1"},
        SEA,
    ),
    "choices written into the question": (
        "rows.jsonl",
        rows({"q": "Q: Where do fish live? Answer choices: A: sea, B: sky", "a": "They need water. The answer is A"}),
        {**PLAIN, "choices": "q", "answer_is": "stated", "rationale": "a"},
        Problem("rows/0", SEA.question, "sea", "sea", SEA.choices, "They need water."),
    ),
    "choices in a prompt with `A:` after them": (
        "rows.jsonl",
        rows({"q": "Where do fish live?\nA) sea\nB) sky\n\nA: Let's think step by step.", "a": "A"}),
        {**BY_LETTER, "choices": "q"},
        SEA,
    ),
    "choices with other text after them": (
        "rows.jsonl",
        rows({"q": "Where do fish live?\nA) sea\nB) sky\nGive a reason.", "a": "A"}),
        {**BY_LETTER, "choices": "q"},
        "text follows the last option",
    ),
    "choices with letters in another order": (
        "rows.jsonl",
        rows({**LETTER, "options": ["B) sky", "A) sea"]}),
        BY_LETTER,
        "letters that do not run from A in order",
    ),
    "choices of which one is empty before others": (
        "rows.csv",
        "q,opa,opb,opc,a\nWhere do fish live?,,sea,sky,A\n",
        {**PLAIN, "choices": ["opa", "opb", "opc"], "answer_is": "letter"},
        "a choice is empty before others",
    ),
    "choices as Python writes a list": (
        "rows.csv",
        "q,options,a\nWhere do fish live?,\"['sea', 'sky']\",sea\n",
        {**PLAIN, "choices": "options"},
        SEA,
    ),
    "choices as numpy writes a list": (
        "rows.csv",
        "q,options,a\nWhere do fish live?,\"['sea' 'sky']\",sea\n",
        {**PLAIN, "choices": "options"},
        "neither a list nor options with letters from A on",
    ),
    "a letter for an answer, not declared": (
        "rows.jsonl",
        rows({**LETTER, "options": ["sea", "sky"]}),
        {**PLAIN, "choices": "options"},
        "answer_is: letter",
    ),
    "a number for an answer, not declared": (
        "rows.jsonl",
        rows({**LETTER, "a": 0, "options": ["sea", "sky"]}),
        {**PLAIN, "choices": "options"},
        "answer_is: index",
    ),
    "yes or no, as booleans": (
        "rows.jsonl",
        rows({"q": YES.question, "a": True}),
        {**PLAIN, "choices_are": "yes-no"},
        YES,
    ),
    "true or false, as words": (
        "rows.csv",
        "q,a\nDo fish swim?,True\n",
        {**PLAIN, "choices_are": "true-false"},
        Problem("rows/0", YES.question, "true", "true", ("true", "false")),
    ),
    "booleans, not declared": ("rows.jsonl", rows({"q": YES.question, "a": True}), PLAIN, "choices_are: yes-no"),
    "a misspelt column": (
        "rows.jsonl",
        rows(ONE),
        {"question": "qestion", "answer": "answer"},
        "did you mean 'question'",
    ),
    "a misspelt part of a column": (
        "rows.jsonl",
        rows(CHAT),
        {"question": "messages[0].contant", "answer": "messages[1].content", "answer_is": "stated"},
        r"under 'messages\[0\]'.*did you mean 'messages\[0\]\.content'",
    ),
    "a misspelt role of a chat": (
        "rows.jsonl",
        rows(CHAT),
        {"question": "messages[user]", "answer": "messages[asistant]", "answer_is": "stated"},
        r"did you mean 'messages\[assistant\]'",
    ),
    "a CSV with semicolons": (
        "rows.csv",
        f'q;a\n"{ASKED}";21\n',
        {**PLAIN, "delimiter": ";"},
        BARE,
    ),
    "a CSV with semicolons, not declared": ("rows.csv", "q;a\n1;2\n", PLAIN, "write `delimiter: ';'`"),
    "a CSV of Excel's in cp1252": (
        "rows.csv",
        "q,a\nÉtienne a 3 €. Et après?,21\n".encode("cp1252"),
        {**PLAIN, "encoding": "cp1252"},
        Problem("rows/0", "Étienne a 3 €. Et après?", "21", "21"),
    ),
    "UTF-16": (
        "rows.jsonl",
        rows({"q": ASKED, "a": 21}).encode("utf-16"),
        {**PLAIN, "encoding": "utf-16"},
        BARE,
    ),
    "another encoding, not declared": (
        "rows.csv",
        "q,a\nÉt,2\n".encode("cp1252"),
        PLAIN,
        "line 2 .*encoding: cp1252",
    ),
    "an encoding that does not exist": ("rows.csv", "q,a\n", {**PLAIN, "encoding": "zip"}, "name of a text encoding"),
    "float32 in Parquet": (
        "rows.parquet",
        table({"q": ["How much is a tenth?"], "a": pa.array([0.1], pa.float32())}),
        PLAIN,
        Problem("rows/0", "How much is a tenth?", "0.1", "0.1"),
    ),
    "float16 in Parquet": (
        "rows.parquet",
        table({"q": ["How much is a tenth?"], "a": pa.array([np.float16(0.1)])}),
        PLAIN,
        Problem("rows/0", "How much is a tenth?", "0.1", "0.1"),
    ),
    "decimals in Parquet": (
        "rows.parquet",
        table({"q": ["How much is a tenth?"], "a": pa.array(["0.10"]).cast(pa.decimal128(9, 2))}),
        PLAIN,
        Problem("rows/0", "How much is a tenth?", "0.1", "0.1"),
    ),
    "nested columns of Parquet": (
        "rows.parquet",
        table({"q": ["Where do fish live?"], "a": ["B"], "c": [{"text": ["sky", "sea"], "label": ["A", "B"]}]}),
        {**BY_LETTER, "choices": "c.text"},
        Problem("rows/0", SEA.question, "sea", "sea", ("sky", "sea")),
    ),
    "a JSON list": ("rows.json", json.dumps([ONE]), {"question": "question", "answer": "answer"}, BARE),
    "one object over several lines": (
        "rows.json",
        json.dumps(ONE, indent=2),
        {"question": "question", "answer": "answer"},
        BARE,
    ),
    "rows inside an object": (
        "rows.json",
        json.dumps({"version": "1.0", "data": [ONE]}),
        {"question": "question", "answer": "answer", "rows": "data"},
        BARE,
    ),
    "rows inside an object, not declared": (
        "rows.json",
        json.dumps({"version": "1.0", "data": [ONE]}, indent=1),
        {"question": "question", "answer": "answer"},
        "write `rows: data`",
    ),
    "lists of rows by split, not said which": (
        "rows.json",
        json.dumps({"train": [ONE], "test": [ONE]}),
        {"question": "question", "answer": "answer"},
        "write `rows: train`",
    ),
    "an object with one key twice": (
        "rows.jsonl",
        '{"question": "1+1?", "answer": 2, "answer": 3}\n',
        {"question": "question", "answer": "answer"},
        "line 1: an object has one key twice",
    ),
    "an object of columns": ("rows.json", '{"q": {"0": "x"}, "a": {"0": 1}}', PLAIN, "orient='records', lines=True"),
    "a byte order mark": ("rows.jsonl", b"\xef\xbb\xbf" + rows(SUMS).encode(), PLAIN, BARE),
    "line ends of Windows": ("rows.csv", f'q,a\r\n"{ASKED}",21\r\n', PLAIN, BARE),
    "empty lines between rows": ("rows.jsonl", f"\n{rows(SUMS)}\n\n", PLAIN, BARE),
    "numbers as text": ("rows.jsonl", rows({**SUMS, "a": "$21.00"}), PLAIN, BARE),
    "an answer in a list": (
        "rows.jsonl",
        rows({**SUMS, "a": ["21"]}),
        PLAIN,
        r"name its position, such as `column\[0\]`",
    ),
    "answers as SQuAD has them": (
        "rows.jsonl",
        rows({"q": ASKED, "answers": {"text": ["21"], "answer_start": [3]}}),
        {"question": "q", "answer": "answers.text[0]"},
        BARE,
    ),
    "a chat with tool calls": (
        "rows.jsonl",
        rows(TOOLS),
        {"question": "messages[user]", "answer": "messages[-1].content", "answer_is": "stated"},
        BARE,
    ),
    "a chat with tool calls, by its roles": ("rows.jsonl", rows(TOOLS), TURN, r"several turns of 'assistant'.*\[-1\]"),
    "a chat in a cell of a CSV": (
        "rows.csv",
        "messages\n" + '"' + json.dumps(CHAT["messages"]).replace('"', '""') + '"\n',
        TURN,
        BARE,
    ),
    "a chat in Parquet": ("rows.parquet", table({"messages": [CHAT["messages"]]}), TURN, BARE),
    "a chat with a picture": ("rows.jsonl", rows(PICTURE), TURN, r"the field 'messages\[user\]' is not text"),
    "a pair of preferences": (
        "rows.jsonl",
        rows({"prompt": ASKED, "chosen": CHAT["messages"], "rejected": []}),
        {"question": "prompt", "answer": "chosen[assistant]", "answer_is": "stated"},
        BARE,
    ),
    "a trace with thinking": (
        "rows.jsonl",
        rows({"q": ASKED, "a": f"<think>\nHmm.\n</think>\n{STATED}"}),
        {**PLAIN, "answer_is": "stated", "rationale": "a"},
        SUM,
    ),
    "labels that are digits": (
        "rows.jsonl",
        rows({**LETTER, "a": "1", "options": {"text": ["sea", "sky"], "label": ["1", "2"]}}),
        {**BY_LETTER, "choices": "options.text", "answer_is": "index-from-1"},
        SEA,
    ),
    "labels that are digits, said to be letters": (
        "rows.jsonl",
        rows({**LETTER, "a": "1", "options": ["sea", "sky"]}),
        BY_LETTER,
        "`answer_is: index`, or index-from-1",
    ),
    "an index that points at no choice": (
        "rows.jsonl",
        rows({**LETTER, "a": 2, "options": ["sea", "sky"]}),
        {**BY_LETTER, "answer_is": "index"},
        "the answer points at no choice",
    ),
    "an index as pandas writes it": (
        "rows.csv",
        'q,options,a\nWhere do fish live?,"[""sea"", ""sky""]",0.0\n',
        {**BY_LETTER, "answer_is": "index"},
        SEA,
    ),
    "choices as objects": (
        "rows.jsonl",
        rows({**LETTER, "options": [{"label": "A", "text": "sea"}, {"label": "B", "text": "sky"}]}),
        BY_LETTER,
        r"name their text, such as `column\.text`",
    ),
    "choices by letter in a cell of text": (
        "rows.jsonl",
        rows({**LETTER, "options": '{"A": "sea", "B": "sky"}'}),
        BY_LETTER,
        SEA,
    ),
    "choices between bars, without letters": (
        "rows.jsonl",
        rows({**LETTER, "options": "sea|sky"}),
        BY_LETTER,
        "neither a list nor options with letters",
    ),
    "an index of pandas before the columns": ("rows.csv", f',q,a\n0,"{ASKED}",21\n', PLAIN, BARE),
    "a column name twice": (
        "rows.csv",
        f'q,a,a\n"{ASKED}",21,22\n',
        PLAIN,
        "number 3 is empty or named before",
    ),
    "column names in another case": ("rows.jsonl", rows({"Q": ASKED, "A": 21}), PLAIN, "did you mean 'Q'"),
    "tabs between columns": ("rows.tsv", f"q\ta\n{ASKED}\t21\n", PLAIN, BARE),
    "tabs in a CSV, not declared": ("rows.csv", f"q\ta\n{ASKED}\t21\n", PLAIN, r'delimiter: "\\t"'),
    "a first line for Excel": (
        "rows.csv",
        f'sep=;\nq;a\n"{ASKED}";21\n',
        {**PLAIN, "delimiter": ";"},
        "take that line out",
    ),
    "JSON lines by the name of JSON": ("rows.json", rows(SUMS), PLAIN, BARE),
    "a JSON list by the name of lines": ("rows.jsonl", json.dumps([SUMS], indent=1), PLAIN, BARE),
    "Parquet by another name": ("rows.jsonl", table({"q": [ASKED]}), PLAIN, "begins as Parquet"),
    "a workbook by another name": (
        "rows.csv",
        b"PK\x03\x04" + bytes(40),
        PLAIN,
        "begins as a zip archive, such as an Excel",
    ),
    "a packed file by another name": ("rows.jsonl", gzip.compress(rows(SUMS).encode()), PLAIN, "packed with gzip"),
    "nothing": ("rows.jsonl", "", PLAIN, r"it is empty \(0 bytes\)"),
    "a spreadsheet or a packed file": ("rows.xlsx", b"PK", PLAIN, "save a spreadsheet as CSV"),
    "MMLU": (
        "rows.jsonl",
        rows({"question": SEA.question, "choices": ["sea", "sky"], "answer": 0}),
        {"question": "question", "choices": "choices", "answer": "answer", "answer_is": "index"},
        SEA,
    ),
    "MMLU, its index not said to be one": (
        "rows.jsonl",
        rows(
            {**LETTER, "options": ["1", "2", "3"], "a": 2},
            *({**LETTER, "options": ["sea", "sky"], "a": k} for k in (0, 1)),
        ),
        {**PLAIN, "choices": "options"},
        "2 of 3 are numbers that no choice has",
    ),
    "ARC, its choices named as a whole": (
        "rows.jsonl",
        rows({**LETTER, "choices": {"text": ["sea", "sky"], "label": ["A", "B"]}}),
        {**BY_LETTER, "choices": "choices"},
        r"name their texts, such as `column\.text`",
    ),
    "HellaSwag": (
        "rows.jsonl",
        rows({"ctx": SEA.question, "endings": ["sea", "sky"], "label": "0"}),
        {"question": "ctx", "choices": "endings", "answer": "label", "answer_is": "index"},
        SEA,
    ),
    "PIQA": (
        "rows.jsonl",
        rows({"goal": SEA.question, "sol1": "sea", "sol2": "sky", "label": 0}),
        {"question": "goal", "choices": ["sol1", "sol2"], "answer": "label", "answer_is": "index"},
        SEA,
    ),
    "BoolQ": (
        "rows.jsonl",
        rows({"passage": "Fish live in the sea.", "question": "Do fish swim?", "answer": True}),
        {"question": ["passage", "question"], "answer": "answer", "choices_are": "yes-no"},
        Problem("rows/0", "Fish live in the sea.\nDo fish swim?", "yes", "yes", ("yes", "no")),
    ),
    "a list of facts or steps as rationale": (
        "rows.jsonl",
        rows({**SUMS, "facts": ["3 boxes of 7", "are 3 * 7 = 21."]}),
        {**PLAIN, "rationale": "facts"},
        Problem("rows/0", ASKED, "21", "21", rationale="3 boxes of 7\nare 3 * 7 = 21."),
    ),
    "numbers of another base": (
        "rows.jsonl",
        rows({"q": ASKED, "a": "52_8"}),
        PLAIN,
        Problem("rows/0", ASKED, "52_8", "52_8"),
    ),
    "formulas": ("rows.jsonl", rows({"q": ASKED, "a": "2k+2"}), PLAIN, Problem("rows/0", ASKED, "2k+2", "2k+2")),
    "decimal commas": (
        "rows.csv",
        f"q;a\n{ASKED};0,75\n{ASKED};1.234,5\n",
        {**PLAIN, "delimiter": ";"},
        "save it with a decimal point",
    ),
    "yes or no with a full stop": (
        "rows.jsonl",
        rows({"q": YES.question, "a": "Yes."}),
        {**PLAIN, "choices_are": "yes-no"},
        YES,
    ),
    "spaces around column names": ("rows.csv", f'q , a\n"{ASKED}", 21\n', PLAIN, BARE),
    "UTF-16, not declared": ("rows.csv", f"q,a\n{ASKED},21\n".encode("utf-16"), PLAIN, "`encoding: utf-16`"),
    "Arrow": ("rows.arrow", b"ARROW1", PLAIN, "save it as Parquet"),
    "a pickle": ("rows.pkl", b"\x80\x04", PLAIN, "pickles are never opened"),
    "a pointer of Git LFS": (
        "rows.parquet",
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        PLAIN,
        "git lfs pull",
    ),
    "a page of HTML": ("rows.jsonl", "<!DOCTYPE html><html></html>\n", PLAIN, "a page of HTML"),
}


@pytest.mark.parametrize(("name", "content", "columns", "expected"), CASES.values(), ids=CASES.keys())
def test_a_file_of_this_shape_loads_or_says_what_to_write(
    name: str, content: str | bytes, columns: dict[str, Any], expected: Problem | str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    if isinstance(expected, Problem):
        assert load_problems("table", path, columns=columns).problems == (expected,)
    else:
        with pytest.raises(DataError, match=expected):
            load_problems("table", path, columns=columns)


def test_the_documentation_has_every_shape() -> None:
    section = DOCS.read_text(encoding="utf-8").partition("### Shapes")[2].partition("\n#")[0]
    assert re.findall(r"^\| ([^|-][^|]*) \| ", section, re.MULTILINE)[1:] == [*CASES]
