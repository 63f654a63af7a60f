"""One file a command: its arguments, as a typed function whose docstring is its help, and one call into the house.

Imports stand inside the functions, so that `distreid --help` needs neither torch nor ray.
"""
