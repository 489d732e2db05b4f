"""Draws objects at their poses and matches the drawings to a photo; several stages use it."""
