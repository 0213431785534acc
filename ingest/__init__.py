"""Outlines and authored content in, one validated atlas out."""
