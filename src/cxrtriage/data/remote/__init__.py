"""Films, tables and results in an object store: what an address is, how objects come here and go there."""
