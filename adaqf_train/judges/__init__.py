"""Networks that compare motions with texts: extractors, independent evaluators, official evaluators."""
