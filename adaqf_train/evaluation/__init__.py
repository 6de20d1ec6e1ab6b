"""Metrics and the protocol: `protocol.evaluate` computes a row of figures, `report.Report` its tables."""
