"""Overlay networks between nodes, names and virtual addresses in them."""
