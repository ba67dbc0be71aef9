"""Ways to execute a graph. A runtime never changes the numbers, only the time they take."""
