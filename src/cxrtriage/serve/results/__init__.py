"""Results out: what the node tells a PACS, an information system and physicians, from rows that cannot be lost."""
