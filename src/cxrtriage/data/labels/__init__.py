"""Labels in any form in, a checked manifest split by patient out."""
