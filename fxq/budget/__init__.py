"""Mixed precision within budgets: a measured table, an exact solver, and a second measurement."""
