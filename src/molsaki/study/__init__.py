"""Studies: methods × settings × data sizes × seeds, compared with intervals.

files        the study file, and the recipes that it runs
running      run the students that are missing, on several cores, GPUs or machines
tuning       try settings of each method on the validation problems, and choose
fresh        keep what settings were chosen on out of the confirmation
correctness  which problems every student solved
tables       mean accuracies, paired differences with corrected p-values, McNemar's test, tokens and seconds
curves       accuracy against training problems, and how many problems one method needs to reach another
agreement    agreement with the teacher's attention, and whether it is related to right answers
writing      the tables and curves as Markdown, LaTeX, JSON, SVG and PNG
"""
