"""Weights on disk: this project's files, published ones, pretrained parts, exported graphs, and where they come from.

Import `create_model` and `load_checkpoint` from `create`, `save_checkpoint` from `own`; every foreign format is
translated here and nowhere else. This room imports model and data.
"""
