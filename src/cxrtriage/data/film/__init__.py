"""Any film file in, a `SourceImage` out; `source.read_film` is the door."""
