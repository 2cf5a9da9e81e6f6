"""Studies: methods × settings × data sizes × seeds, and what they come to with intervals.

files      what a study file says, and the recipes and entries that it stands for
running    run what is missing, as far as cores, GPUs and other machines allow
marks      what every student got right, problem by problem
tables     means, paired differences with their correction, McNemar's test, tokens and seconds
curves     accuracy against training examples, and how many examples one method needs to reach another
looking    does the teacher's attention come across, and has it to do with being right?
writing    Markdown, LaTeX, JSON and pictures
"""
