"""Fits what the package carries ready-made; nothing here is installed."""
