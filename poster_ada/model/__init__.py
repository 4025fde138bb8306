"""The network: its configuration (without torch), POSTER's parts one to a file, the model, and a copy that is fast.

Import `config`, `poster`, `heads`, `summary`, `fast` from here; this room itself imports nothing but the ground floor
(errors, expressions, palette, settings).
"""
