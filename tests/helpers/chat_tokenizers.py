"""Tokenizers of single bytes with the chat templates that are in use: what they add, trim, refuse and drop."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

END, START_TURN, END_TURN = "<|end|>", "<|im_start|>", "<|im_end|>"
TURN = "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}"
CHATML = (
    "{% for m in messages %}" + TURN + "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nBe kind.<|im_end|>\\n' }}{% endif %}" + CHATML
)
TRIMS = CHATML.replace("m['content']", "m['content'] | trim")
DATED = "{{ '<|im_start|>system\\nToday: ' + strftime_now('%d %b %Y') + '<|im_end|>\\n' }}" + CHATML
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML
DROPS_SYSTEM = CHATML.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}")
ESCAPES = CHATML.replace("m['content']", "m['content'] | e")
NO_GENERATION_PROMPT = "{% for m in messages %}" + TURN + "{% endfor %}"
# As Llama 2's and Mistral's: the answer follows the user's turn, so that there is nothing to open.
INST = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ ' ' + m['content'] | trim + '<|im_end|>' }}"
    "{% else %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% endif %}{% endfor %}"
)
NO_END = CHATML.replace("<|im_end|>", "")
# As Qwen3's: an answer is written behind a thought, empty or not; without thinking, the generation prompt has it too.
THINKS = (
    "{% for m in messages %}{% set text = m['content'] %}{% if m['role'] == 'assistant' %}{% set thought = '' %}"
    "{% if '</think>' in text %}{% set thought = text.split('</think>')[0].split('<think>')[-1].strip('\\n') %}"
    "{% set text = text.split('</think>')[-1].lstrip('\\n') %}{% endif %}"
    "{{ '<|im_start|>assistant\\n<think>\\n' + thought + '\\n</think>\\n\\n' + text + '<|im_end|>\\n' }}"
    "{% else %}" + TURN + "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
    "{% endif %}"
)
# As DeepSeek-R1's: the model is asked behind an open thought, and a finished answer has none.
DROPS_THINKING = (
    "{% for m in messages %}{% set text = m['content'].split('</think>')[-1] %}"
    + TURN.replace("m['content']", "text")
    + "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}"
)


def chat_tokenizer(chat_template: str | None = CHATML, max_length: int = 400) -> PreTrainedTokenizerFast:
    """One token a byte, an end-of-text token that is not the end of a turn, and `<think>` as a plain added token."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(BPE(vocab={END: 0, **{letter: i + 1 for i, letter in enumerate(letters)}}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([START_TURN, END_TURN])
    backend.add_tokens([AddedToken(tag, normalized=False) for tag in ("<think>", "</think>")])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=END, model_max_length=max_length, clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = chat_template
    return tokenizer
