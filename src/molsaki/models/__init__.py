"""Models: loading, generation, evaluation mode, and estimates of memory and time."""
