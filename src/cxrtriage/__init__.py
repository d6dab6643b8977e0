"""Chest X-ray triage: learns normal from abnormal on a hospital's own films, and proves how well."""

__version__ = "0.1.0"
