"""What a model is worth: predictions of a split, scores with their uncertainty, the report's protocol, degraded faces.

Import `predict_split` from `predict`, `compute_metrics` and `compare` from `metrics`; predictions travel as one table.
This room imports checkpoints, data and model.
"""
