"""A prepared set in, training batches out."""
