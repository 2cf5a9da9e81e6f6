"""The report of a run, one page to look at and its figures as files; `build` is the way in."""
