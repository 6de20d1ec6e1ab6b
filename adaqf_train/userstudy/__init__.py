"""Which model's motions do people rank first: a page that asks them, blinded, and what their answers say."""
