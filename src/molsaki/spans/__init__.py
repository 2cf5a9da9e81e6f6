"""Text to steps and keys as spans of characters, and characters to a tokenizer's tokens."""
