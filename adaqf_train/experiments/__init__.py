"""The paper's studies: its tables as data, and ours to set beside them."""
