"""Prompts, chats and chat templates, and token ids with the steps and keys that each token belongs to."""
