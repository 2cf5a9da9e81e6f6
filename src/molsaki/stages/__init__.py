"""The stages of a run. Each reads and writes files of the run directory; start reading in `pipeline.py`."""
