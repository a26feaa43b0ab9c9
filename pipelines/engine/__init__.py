"""How the work of a stage is planned, run on Ray, committed and accounted for."""
