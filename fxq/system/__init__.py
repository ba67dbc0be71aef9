"""What torch and this machine are: no graph, no numbers."""
