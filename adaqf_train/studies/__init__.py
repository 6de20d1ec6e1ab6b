"""The paper's studies: definitions, trials, tables and figures."""
