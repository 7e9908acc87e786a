"""Killing and freezing the primary of a running shop, again and again, and what shoppers and staff see of it."""
