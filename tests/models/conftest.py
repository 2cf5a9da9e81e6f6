"""Small random models and a tokenizer of single bytes."""

from byte_models import model, tokenizer

__all__ = ["model", "tokenizer"]
