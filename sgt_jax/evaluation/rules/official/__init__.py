"""The scoring rules of the official benchmark tools, oddities included, as pure functions without JAX.

Where an official rule reads a reply in a way that nobody would expect, it is followed to the letter, and a function whose
name starts with `plain_` beside it is the reading that we would have chosen.
"""
