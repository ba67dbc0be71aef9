"""The public functions: compile, convert, load, and what comes from torch.ao."""
