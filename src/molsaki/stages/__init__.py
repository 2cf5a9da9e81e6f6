"""The stages of a run, each from files to files; `pipeline` is the way through."""
