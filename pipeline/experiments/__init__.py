"""Experiments with data and models of their own; they import the core, never the reverse."""
