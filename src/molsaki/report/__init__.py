"""The report of a run: one HTML page, and its figures as files. `build.write_report` is the entry point."""
