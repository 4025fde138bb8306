"""The course report: published numbers, the ablation, the study on real faces, figures, notebooks and the PDF.

Notebooks and commands import from here; nothing else does. This room imports training and what lies below it.
"""
