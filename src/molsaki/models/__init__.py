"""Models: loading, decoding, evaluation mode, what they need of memory and time."""
