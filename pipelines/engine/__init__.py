"""Plan the work of a stage, run it on Ray, commit the results and account for every input."""
