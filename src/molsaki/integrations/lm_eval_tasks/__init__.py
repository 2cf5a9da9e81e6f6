"""Task files for lm-eval, `lm_eval --include_path`, that score a student as `molsaki evaluate` does."""
