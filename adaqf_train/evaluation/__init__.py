"""Metrics, the evaluator that is not the feedback's, and the protocol that puts them together."""
